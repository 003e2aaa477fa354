"""Members of zip archives, unpacked piece by piece: memory follows the bytes that are there, not those claimed."""

import bz2
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from d3gan.errors import ExternalError, first_line

CHUNK = 1 << 20
"""Bytes read or unpacked at a time."""

UNPACKING_ERRORS = (
    *(OSError, EOFError, ValueError, NotImplementedError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What the standard library raises for archives that are damaged, or packed in a way it does not know."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature and lengths of name and extra field; APPNOTE.TXT 4.3.7


def open_zip(file: BinaryIO, path: Path) -> zipfile.ZipFile:
    """Reads the directory of a zip archive.

    Args:
        file: The opened archive, seekable.
        path: Its name in errors.

    Raises:
        ExternalError: it is none, or is damaged.
    """
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # a damaged directory makes zipfile raise nearly anything
        raise ExternalError(
            f"{path}: cannot be opened as a zip ({first_line(error)}); copy or make it again"
        ) from error


def read_member(file: BinaryIO, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's bytes, its checksum verified; raises one of ``UNPACKING_ERRORS``, also above ``limit`` bytes."""
    if entry.file_size > limit:
        raise ValueError(f"is {entry.file_size:,} bytes long, above {limit:,}")
    return b"".join(unpacked(file, entry))


def unpacked(file: BinaryIO, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpacks a member; verifies its checksum at the end.

    zipfile unpacks whatever a bzip2 or LZMA member grows to at once, whatever length it claims: 2 KB become
    gigabytes. Here nothing is unpacked beyond the claimed length, and a piece is never longer than ``CHUNK``.

    Args:
        file: The archive, seekable; nobody else reads it meanwhile.
        entry: From the archive's directory.

    Yields:
        Its bytes, piece by piece.

    Raises:
        One of ``UNPACKING_ERRORS``.
    """
    if entry.flag_bits & 1:
        raise RuntimeError("is encrypted")
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile("there is no member where the directory says")
    file.seek(name_length + extra_length, 1)
    left, size, checksum = entry.compress_size, 0, 0
    decompressor: _Decompressor | None = None
    while size < entry.file_size:
        packed = b""
        if decompressor is None or decompressor.needs_input:
            packed = file.read(min(left, CHUNK))
            left -= len(packed)
        if decompressor is None:
            decompressor, packed = _decompressor_of(entry, packed)
        piece = decompressor.decompress(packed, min(CHUNK, entry.file_size - size))
        if not piece and not packed and (decompressor.eof or decompressor.needs_input):
            raise EOFError(f"ends after {size:,} of {entry.file_size:,} bytes")
        size += len(piece)
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if checksum != entry.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")


class _Decompressor(Protocol):
    """What the standard library's decompressors of bzip2 and LZMA have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Stored:
    """Of members that are not packed."""

    eof, needs_input = False, True

    def decompress(self, data: bytes, _max_length: int, /) -> bytes:
        return data


class _Inflater:
    """zlib's decompressor with the others' interface."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-15)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _decompressor_of(entry: zipfile.ZipInfo, packed: bytes) -> tuple[_Decompressor, bytes]:
    """The decompressor of a member, and what it is given of its first bytes."""
    match entry.compress_type:
        case zipfile.ZIP_STORED:
            if entry.compress_size != entry.file_size:
                raise zipfile.BadZipFile("a member that is not packed has two lengths")
            return _Stored(), packed
        case zipfile.ZIP_DEFLATED:
            return _Inflater(), packed
        case zipfile.ZIP_BZIP2:
            return bz2.BZ2Decompressor(), packed
        case zipfile.ZIP_LZMA:
            # Version (2 bytes), length of the properties, lc/lp/pb, size of the dictionary: APPNOTE.TXT 5.8.8.
            length, mixed, dictionary = struct.unpack_from("<2xHBI", packed)
            if length != 5 or mixed >= 9 * 5 * 5:
                raise zipfile.BadZipFile("its LZMA properties are wrong")
            rest, lc = divmod(mixed, 9)
            pb, lp = divmod(rest, 5)
            # A dictionary larger than the content has no use, and takes its memory at once.
            dictionary = max(4096, min(dictionary, entry.file_size))
            filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}]
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), packed[9:]
        case method:
            raise NotImplementedError(f"its packing method {method} is unknown")
