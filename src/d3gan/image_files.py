"""The one way to open an image file: by the formats it is named for, if it is a regular file of a bounded size.

Pillow left to itself tries every format it knows by content, among them PostScript, which it hands to Ghostscript.
"""

import io
import itertools
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.files import read_file

MAX_FILE_BYTES = 1 << 28
"""256 MiB: a longer image file counts as damaged; each worker may hold several in memory."""

MAX_PIXELS = 89_478_485
"""Pillow's own limit of an image that it opens without a warning: 256 MiB as RGB, whatever the size of its file.

While transparency is put on white it takes up to 16 bytes per pixel, 1.4 GB.
"""

_EXIF_ORIENTATION = 0x0112
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks and segments that decide pixels, or how they are rotated; all others are text, profiles, thumbnails.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_JPEG_APPLICATION, _JPEG_COMMENT, _JPEG_SCAN = range(0xE0, 0xF0), 0xFE, 0xDA

_opening = threading.Lock()


@contextmanager
def open_image(
    source: Path | bytes, formats: tuple[str, ...], name: str = "", advice: str = "", *, header_only: bool = False
) -> Iterator[Image.Image]:
    """Opens an image, for the block to read its pixels.

    Metadata never costs an image: where Pillow fails, it gets the file once more without what decides no pixel.

    Args:
        source: The file, or its bytes.
        formats: Names of Pillow's formats, such as ``PNG``; a file of another one is refused.
        name: The file's name in errors; by default its path.
        advice: What an error says can be done.
        header_only: Reads no pixels, for the image's size.

    Yields:
        The image, decoded; of an animation the first frame.

    Raises:
        ExternalError: the file or its pixels cannot be read, whatever Pillow raises for it, also inside the block.
    """
    name = name or str(source)
    try:
        content = source if isinstance(source, bytes) else read_file(source, MAX_FILE_BYTES)
        try:
            image = _opened(content, formats, header_only)
        except Exception:
            bare = without_metadata(content)
            if bare == content:
                raise
            image = _opened(bare, formats, header_only)
        with image:
            yield image
    except (ConfigError, ExternalError):
        raise
    except Exception as error:  # Pillow may raise nearly anything on a damaged image
        reason = "is not one" if isinstance(error, UnidentifiedImageError) else first_line(error)
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror  # without its number
        kinds = f"{', '.join(formats[:-1])} or {formats[-1]}" if len(formats) > 1 else formats[0]
        kinds = kinds.replace("WEBP", "WebP")
        raise ExternalError(f"{name}: cannot be read as {kinds} ({reason}){advice and f'; {advice}'}") from error


def _opened(content: bytes, formats: tuple[str, ...], header_only: bool) -> Image.Image:
    # Warning filters belong to the process, hence the lock; only headers are read while it is held.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} are {pixels:,} pixels, above {MAX_PIXELS:,}")
    if header_only:
        return image
    # In a PNG whose EXIF follows the pixels, it is not searched for.
    has_exif = image.format != "PNG" or "exif" in image.info
    image.load()
    image.info["orientation"] = _orientation(image) if has_exif else 1
    return image


def _orientation(image: Image.Image) -> int:
    """How the photograph is to be rotated, 1 to 8 (EXIF 2.3, section 4.6.4 A); 1 where nothing readable says so."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = image.getexif().get(_EXIF_ORIENTATION)
        except Exception:  # a malformed block, which is no reason to refuse the pixels
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def without_metadata(content: bytes) -> bytes:
    """A PNG's or JPEG's bytes without the parts that decide no pixel; others unchanged."""
    if content.startswith(_PNG_SIGNATURE):
        return b"".join([_PNG_SIGNATURE, *(chunk for kind, chunk in _png_chunks(content) if kind in _PNG_CHUNKS)])
    if content.startswith(b"\xff\xd8"):
        return _jpeg_without_metadata(content)
    return content


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of a PNG's chunks, up to a last one that is cut short."""
    start = len(_PNG_SIGNATURE)
    while start + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        chunk = content[start : start + 12 + length]
        # A block of EXIF with a wrong checksum is worth no image.
        if kind != b"eXIf" or zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]:
            yield kind, chunk
        start += 12 + length


def _jpeg_without_metadata(content: bytes) -> bytes:
    """A JPEG without application data and comments before its first scan, except JFIF's, Adobe's and EXIF's."""
    parts, start = [content[:2]], 2
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker, length = struct.unpack_from(">xBH", content, start)
        end = start + 2 + length
        if marker == _JPEG_SCAN:
            break
        dropped = marker in _JPEG_APPLICATION and marker not in (0xE0, 0xEE)
        dropped = dropped and not (marker == 0xE1 and content.startswith(b"Exif", start + 4))
        if not (dropped or marker == _JPEG_COMMENT):
            parts.append(content[start:end])
        start = end
    return b"".join([*parts, content[start:]])


def _png_size_and_kind(content: bytes) -> tuple[int, ...]:
    """Width, height, bits per channel, color type, compression, filter and interlacing of a PNG.

    Of several headers Pillow believes the last one before the pixels.
    """
    before = itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", _png_chunks(content))
    *_, header = (chunk for kind, chunk in before if kind == b"IHDR")
    return struct.unpack_from(">IIBBBBB", header, 8)


def png_header(content: bytes) -> tuple[int, int, bytes | None]:
    """Bits per channel, color type and transparent color (the tRNS chunk; None: there is none) of a PNG."""
    _, _, depth, color, *_ = _png_size_and_kind(content)
    return depth, color, next((chunk[8:-4] for kind, chunk in _png_chunks(content) if kind == b"tRNS"), None)


def low_bytes(content: bytes) -> bytes:
    """A PNG of 8 bits per channel made of the low bytes of one with 16: of its colors Pillow reads the high ones.

    PNG's filters work on each byte of a pixel by itself, with the same byte of its neighbours, so that every second
    byte of the filtered rows makes the rows of the other image, filters included.

    Args:
        content: of an image that Pillow has read, so that its size is within ``MAX_PIXELS``.
    """
    width, height, _, color, *rest = _png_size_and_kind(content)
    channels = 3 if color == 2 else 1
    packed = b"".join(chunk[8:-4] for kind, chunk in _png_chunks(content) if kind == b"IDAT")
    # Adam7's seven passes (PNG specification, section 8.2): first column and row, and the distance of the next ones.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    if not rest[2]:
        passes = [(0, 0, 1, 1)]
    shapes = [(-(-(height - top) // down), -(-(width - left) // across)) for left, top, across, down in passes]
    rows = [(count, 1 + 2 * channels * pixels) for count, pixels in shapes if count > 0 and pixels > 0]
    filtered = zlib.decompressobj().decompress(packed, sum(count * length for count, length in rows))
    halves, start = [], 0
    for count, length in rows:
        # Of pixels that end too early, whole rows.
        part = np.frombuffer(filtered[start : start + count * length], np.uint8)
        part = part[: len(part) // length * length].reshape(-1, length)
        halves.append(np.delete(part, np.s_[1::2], axis=1).tobytes())
        start += count * length
    header = struct.pack(">IIBBBBB", width, height, 8, color, *rest)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(halves), 1)), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
