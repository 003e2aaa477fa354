"""Image files are opened in one place, by the formats they are named for; what decides no pixel costs no image."""

import ast
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import d3gan
from d3gan.data.load import load_images
from d3gan.errors import ExternalError
from d3gan.image_files import open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(x) run\n%%EOF\n"


def test_no_other_module_opens_images_by_itself() -> None:
    source = Path(d3gan.__file__).parent
    openers = []
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bare = isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value) == "Image"
            named = isinstance(node, ast.ImportFrom) and node.module == "PIL.Image"
            openers += [path.relative_to(source).as_posix()] if bare or named else []
    assert openers == ["image_files.py"]


def test_a_file_of_another_format_is_refused_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "grid.png"
    path.write_bytes(EPS)
    with (
        pytest.raises(ExternalError, match=r"grid\.png: cannot be read as PNG \(is not one\)"),
        open_image(path, ("PNG",)),
    ):
        pass
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_fifo_is_named_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with (
        pytest.raises(ExternalError, match=r"x\.png: .*\(is a FIFO, not a file\)"),
        open_image(tmp_path / "x.png", ("PNG",)),
    ):
        pass


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*between: bytes, after: bytes = b"") -> bytes:
    rows = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
    parts = (b"\x89PNG\r\n\x1a\n", header, *between, chunk(b"IDAT", zlib.compress(rows)), after, chunk(b"IEND", b""))
    return b"".join(parts)


WRONG_CHECKSUM = chunk(b"tEXt", b"a\0b")[:-1] + b"\xff"
METADATA = {
    "EXIF that is none": chunk(b"eXIf", b"not a tiff at all"),
    "EXIF with a wrong checksum": chunk(b"eXIf", b"MM\0*")[:-1] + b"\xff",
    "text with a wrong checksum": WRONG_CHECKSUM,
    "text of megabytes": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000))),
    "international text of megabytes": chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(5_000_000))
    ),
    "text that does not unpack": chunk(b"zTXt", b"a\0\0nothing packed"),
    "profile of megabytes": chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(5_000_000))),
    "profile that does not unpack": chunk(b"iCCP", b"a\0\0nothing packed"),
    "profile of no known packing": chunk(b"iCCP", b"a\0\7nothing"),
    "gamma without a number": chunk(b"gAMA", b"\0"),
    "resolution without a number": chunk(b"pHYs", b"\0"),
    "chromaticities of odd length": chunk(b"cHRM", b"\0\1\2"),
    "animation of no frames": chunk(b"acTL", bytes(8)),
    "animation of odd length": chunk(b"acTL", b"\0"),
    "frame of another size": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\xff" * 26),
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
@pytest.mark.parametrize("after", [False, True], ids=["before the pixels", "after them"])
def test_what_decides_no_pixel_of_a_png_costs_no_image(metadata: bytes, after: bool) -> None:
    content = png(after=metadata) if after else png(metadata)
    with open_image(content, ("PNG",), "x") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), PIXELS)


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


@pytest.mark.parametrize(
    "metadata",
    [
        segment(0xE1, b"Exif\0\0not a tiff"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken"),
        segment(0xE2, b"ICC_PROFILE\0\1"),
        segment(0xE2, b"MPF\0broken"),
        segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0"),
        segment(0xFE, b"comment"),
    ],
    ids=["EXIF", "XMP", "ICC", "MPF", "Photoshop", "comment"],
)
def test_what_decides_no_pixel_of_a_jpeg_costs_no_image(metadata: bytes) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG")
    plain = file.getvalue()
    with open_image(plain[:2] + metadata + plain[2:], ("JPEG",), "x") as image, open_image(plain, ("JPEG",)) as other:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(other))


def test_exif_that_is_none_does_not_cost_a_webp() -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(
        file, "WEBP", lossless=True, exif=b"Exif\0\0not a tiff at all", xmp=b"<", icc_profile=b"x"
    )
    with open_image(file.getvalue(), ("WEBP",), "x") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), PIXELS)


def transparent_png(
    depth: int, values: npt.NDArray[np.int64], key: tuple[int, ...], interlaced: bool = False
) -> bytes:
    """A PNG of pixels (H, W, C) whose color ``key`` is transparent, rows filtered each in another way."""
    height, width, channels = values.shape
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        part = values[top::down, left::across]
        before = b""
        for i, row in enumerate(part if part.shape[1] else []):
            bits = "".join(format(int(value), f"0{depth}b") for value in row.ravel())
            packed = bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))
            data += filtered(i % 5, packed, before or bytes(len(packed)), max(1, channels * depth // 8))
            before = packed
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if channels == 3 else 0, 0, 0, interlaced)
    key_bytes = struct.pack(f">{len(key)}H", *key)
    chunks = (
        chunk(b"IHDR", header) + chunk(b"tRNS", key_bytes) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def filtered(kind: int, row: bytes, above: bytes, bpp: int) -> bytes:
    """A row as PNG's filter 0 to 4 stores it (PNG specification, section 9.2)."""
    predictors: list[Callable[[int, int, int], int]] = [
        lambda a, b, c: 0,
        lambda a, b, c: a,
        lambda a, b, c: b,
        lambda a, b, c: (a + b) // 2,
        lambda a, b, c: min((a, b, c), key=lambda x: abs(a + b - c - x)),
    ]
    stored = bytearray([kind])
    for i, value in enumerate(row):
        a, c = (row[i - bpp], above[i - bpp]) if i >= bpp else (0, 0)
        stored.append((value - predictors[kind](a, above[i], c)) % 256)
    return bytes(stored)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_the_transparent_color_is_white_at_every_depth(
    depth: int, channels: int, interlaced: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(depth)
    values = rng.integers(0, 2**depth, (11, 11, channels))
    key = values[3, 4].copy()
    values[5, 6] = values[7, 7] = key
    values[7, 7, -1] ^= 1  # equal but for the lowest bit
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(transparent_png(depth, values, tuple(map(int, key)), interlaced))
    loaded = load_images(tmp_path / "x", image_size=11, data_dir=tmp_path / "d").images[0].transpose(1, 2, 0)
    eight = values * 255 // (2**depth - 1) if depth < 16 or channels == 3 else (values * 255 + 32767) // 65535
    eight = values >> 8 if (depth, channels) == (16, 3) else eight
    expected = np.where((values == key).all(axis=2, keepdims=True), 255, eight)
    np.testing.assert_array_equal(loaded, np.broadcast_to(expected, (11, 11, 3)))


def test_of_several_headers_the_last_one_says_how_many_rows_are_unpacked(tmp_path: Path) -> None:
    """Another one, of billions of pixels, before it: reading took minutes and gigabytes."""
    values = np.random.default_rng(0).integers(0, 2**16, (11, 11, 3))
    content = transparent_png(16, values, (1, 2, 3), False)
    signature, rest = content[:8], content[8:]
    claims = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 2, 0, 0, 0))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(signature + claims + rest)
    loaded = load_images(tmp_path / "x", image_size=11, data_dir=tmp_path / "d").images[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(loaded, values >> 8)
