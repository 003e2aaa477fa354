"""Members of zips: the same bytes as zipfile's, never more memory than they claim, damage is an error."""

import bz2
import contextlib
import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from d3gan.archives import CHUNK, UNPACKING_ERRORS, read_member, unpacked

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def archive(data: bytes, method: int) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as writer:
        writer.writestr("before", b"something else" * 50)
        writer.writestr("member", data)
    return file


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK, 3 * CHUNK + 17])
@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_every_method_gives_back_what_was_packed(method: int, size: int, kind: str) -> None:
    data = bytes(size) if kind == "zeros" else np.random.default_rng(size).bytes(size)
    file = archive(data, method)
    entry = zipfile.ZipFile(file).getinfo("member")
    pieces = list(unpacked(file, entry))
    assert b"".join(pieces) == data
    assert max(map(len, pieces), default=0) <= CHUNK


@pytest.mark.parametrize("method", METHODS)
def test_a_member_that_grows_beyond_its_claim_takes_no_more_than_that(method: int) -> None:
    file = archive(bytes(20 << 20), method)
    entry = zipfile.ZipFile(file).getinfo("member")
    packed = entry.compress_size
    entry.file_size, entry.CRC = 1000, zlib.crc32(b"")
    tracemalloc.start()
    try:
        with pytest.raises(UNPACKING_ERRORS):
            read_member(file, entry, 1 << 28)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * CHUNK + 2 * min(packed, CHUNK)


def test_a_dictionary_of_gigabytes_is_not_made_for_a_small_member() -> None:
    file = archive(b"x" * 5000, zipfile.ZIP_LZMA)
    entry = zipfile.ZipFile(file).getinfo("member")
    data = bytearray(file.getvalue())
    at = entry.header_offset + 30 + len("member")
    data[at + 5 : at + 9] = struct.pack("<I", 0xFFFFFFFF)
    assert read_member(io.BytesIO(bytes(data)), entry, 1 << 28) == b"x" * 5000


def test_a_claim_above_the_limit_is_refused_before_it_is_unpacked() -> None:
    file = archive(bytes(1001), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="1,001 bytes long, above 1,000"):
        read_member(file, zipfile.ZipFile(file).getinfo("member"), 1000)


@pytest.mark.parametrize("method", METHODS)
def test_damage_is_the_right_bytes_or_an_error(method: int) -> None:
    data = np.random.default_rng(1).bytes(300) * 4
    whole = archive(data, method).getvalue()
    entry = zipfile.ZipFile(io.BytesIO(whole)).getinfo("member")
    rng = np.random.default_rng(method)
    for _ in range(300):
        damaged = bytearray(whole)
        at = int(rng.integers(entry.header_offset, entry.header_offset + 40 + entry.compress_size))
        damaged[at] ^= int(rng.integers(1, 256))
        cut = len(whole) if rng.random() < 0.7 else int(rng.integers(entry.header_offset, len(whole)))
        with contextlib.suppress(*UNPACKING_ERRORS):
            assert read_member(io.BytesIO(bytes(damaged[:cut])), entry, 1 << 20) == data


def test_bzip2_of_two_kilobytes_that_says_a_thousand_bytes() -> None:
    packed = bz2.compress(bytes(45_000_000))
    name = b"x.png"
    header = struct.pack("<IHHHHHIIIHH", 0x04034B50, 46, 0, 12, 0, 33, 0, len(packed), 1000, len(name), 0) + name
    entry = zipfile.ZipInfo("x.png")
    entry.header_offset, entry.compress_type = 0, zipfile.ZIP_BZIP2
    entry.compress_size, entry.file_size, entry.CRC = len(packed), 1000, 0
    with pytest.raises(zipfile.BadZipFile, match="checksum"):
        read_member(io.BytesIO(header + packed), entry, 1 << 28)
