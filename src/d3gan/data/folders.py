"""Any folder or .zip of images: listed in a fixed order, identified by content, decoded into square uint8 images.

PNG, JPEG and WebP, with or without class folders (``d3gan.data.labels`` reads the classes). Every image becomes RGB
(``channels = 3``) or ITU-R 601 luminance (``channels = 1``), whatever its own mode; transparency is put on white;
16-bit grey is scaled to 8 bits; a photograph is rotated as its EXIF says; of an animation the first frame is used.
"""

import hashlib
import logging
import os
import stat
import zipfile
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from d3gan.archives import UNPACKING_ERRORS, open_zip, read_member
from d3gan.data.files import disk_errors, hash_file
from d3gan.data.preprocess import ImageArray, fit, ordered_map, to_array
from d3gan.errors import ExternalError, first_line
from d3gan.files import kind_of, open_file, read_file
from d3gan.image_files import MAX_FILE_BYTES, low_bytes, open_image, png_header

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")

LABELS_FILE = "dataset.json"
"""At the top of a folder or zip: the labels of its images, as StyleGAN's and EDM's tools write them."""

_NAMED = 3
"""Files that are passed over and named; the others are counted."""
_NAMED_DAMAGED = 10
"""Damaged files that are named; the others are counted."""

logger = logging.getLogger("d3gan")

# EXIF 2.3, section 4.6.4 A: how to undo each orientation except the first, which is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DamagedImageError(ExternalError):
    """The content of an image file is no image that can be read; the disk is not at fault."""


class DamagedImagesError(ExternalError):
    """The same of all damaged files of a folder or zip, in one line."""

    damaged: Mapping[int, str] = {}
    """Index of each damaged file -> what is wrong, in a few words."""


class Collection(Protocol):
    """The image files of a folder or zip, in a fixed order.

    Attributes:
        path: The folder or zip.
        names: Their names inside it, sorted, with forward slashes.
        ignored: Number of other files: hidden ones, those without an image's suffix, and what is no regular file.
    """

    path: Path
    names: list[str]
    ignored: int

    def read(self, index: int) -> bytes:
        """The bytes of one image file; raises ExternalError, or DamagedImageError where no disk is at fault."""
        ...

    def leave_out(self, indices: Container[int]) -> None:
        """From now on it is the same as one that never had these files."""
        ...

    def labels_file(self) -> bytes | None:
        """The bytes of dataset.json at the top; None if there is none."""
        ...

    def quick_key(self) -> str:
        """A key that changes whenever the content does; computed without reading the images."""
        ...

    def checksum(self) -> str:
        """SHA-256 hex of names and contents; equal for copies."""
        ...


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts) or "__MACOSX" in parts
    return not hidden and name.lower().endswith(SUFFIXES)


def _too_long(name: str, size: int) -> DamagedImageError:
    return DamagedImageError(
        f"{name}: is {size:,} bytes long, above {MAX_FILE_BYTES:,}; remove it or make it smaller"
    )


@contextmanager
def open_collection(path: Path) -> Iterator[Collection]:
    """Opens a folder or zip of images.

    Raises:
        ExternalError: it cannot be read, is neither folder nor zip, or holds no image.
    """
    with ExitStack() as stack:
        collection: Collection
        if path.is_dir():
            collection = _Folder(path)
        else:
            with disk_errors(path):
                file = stack.enter_context(open_file(path))
            collection = _Zip(path, file, stack.enter_context(open_zip(file, path)))
        if not collection.names:
            raise ExternalError(
                f"{path}: holds no image ({', '.join(SUFFIXES)}; {collection.ignored} other files ignored)"
            )
        yield collection


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored = 0
        self.names: list[str] = []
        self._stats: list[os.stat_result] = []
        passed_over: list[str] = []
        for name in sorted(self._walk()):
            if not _is_image(name):
                self.ignored += 1
                continue
            try:
                status = (path / name).stat()
            except OSError:
                status = None
            if status is not None and stat.S_ISREG(status.st_mode):
                self.names.append(name)
                self._stats.append(status)
            else:
                # A link to nothing, a FIFO: nothing to wait for, and no reason to do without the others.
                passed_over.append(f"{name} ({kind_of(path / name) or 'gone'})")
        self.ignored += len(passed_over)
        if passed_over:
            more = f" and {len(passed_over) - _NAMED:,} more" if len(passed_over) > _NAMED else ""
            logger.warning(f"{path}: passed over, as no files: {', '.join(passed_over[:_NAMED])}{more}")

    def _walk(self) -> Iterator[str]:
        """The names of all files; follows links to folders, each folder once."""
        seen: set[tuple[int, int]] = set()
        for folder, subfolders, files in os.walk(self.path, followlinks=True, onerror=_raise):
            with disk_errors(Path(folder)):
                status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            # In a fixed order, so that of two names of one folder the same one is used each time.
            subfolders.sort()
            for file in files:
                yield Path(folder, file).relative_to(self.path).as_posix()

    def read(self, index: int) -> bytes:
        file, size = self.path / self.names[index], self._stats[index].st_size
        if size > MAX_FILE_BYTES:
            raise _too_long(f"{self.path}: {self.names[index]}", size)
        with disk_errors(file):
            return read_file(file, MAX_FILE_BYTES)

    def leave_out(self, indices: Container[int]) -> None:
        self._stats = [each for i, each in enumerate(self._stats) if i not in indices]
        self.names = [name for i, name in enumerate(self.names) if i not in indices]

    def labels_file(self) -> bytes | None:
        file = self.path / LABELS_FILE
        with disk_errors(file):
            return read_file(file, MAX_FILE_BYTES) if file.is_file() else None

    def quick_key(self) -> str:
        digest = hashlib.sha256(os.fsencode(self.path.resolve()))
        for name, status in zip(self.names, self._stats, strict=True):
            # The change time reveals an edit that restored size and modification time.
            stamp = f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0"
            digest.update(os.fsencode(name) + stamp.encode())
        return digest.hexdigest()

    def checksum(self) -> str:
        digest = hashlib.sha256()
        for name in self.names:
            with disk_errors(self.path / name):
                content = hash_file(self.path / name, "sha256")
            digest.update(os.fsencode(name) + f"\0{content}\0".encode())
        return digest.hexdigest()


def _raise(error: OSError) -> None:
    with disk_errors(Path(error.filename)):
        raise error


class _Zip:
    def __init__(self, path: Path, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file
        # A name may be empty, of which zipfile's own is_dir() fails.
        files = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        # Some programs write Windows' separator into archives.
        images = [entry for entry in files if _is_image(entry.filename.replace("\\", "/"))]
        # Entries, not names: two entries may have one name, and both are images.
        self._entries = sorted(images, key=lambda entry: (entry.filename, entry.header_offset))
        self.names = [entry.filename for entry in self._entries]
        self.ignored = len(files) - len(images)
        self._labels = next((entry for entry in files if entry.filename == LABELS_FILE), None)

    def read(self, index: int) -> bytes:
        return self._unpack(self._entries[index])

    def leave_out(self, indices: Container[int]) -> None:
        self._entries = [entry for i, entry in enumerate(self._entries) if i not in indices]
        self.names = [entry.filename for entry in self._entries]

    def labels_file(self) -> bytes | None:
        return self._unpack(self._labels) if self._labels is not None else None

    def _unpack(self, entry: zipfile.ZipInfo) -> bytes:
        name = f"{self.path}: {entry.filename}"
        if entry.flag_bits & 1:
            raise DamagedImageError(f"{name}: is encrypted; unpack it and name the folder instead")
        if entry.file_size > MAX_FILE_BYTES:
            raise _too_long(name, entry.file_size)
        try:
            return read_member(self._file, entry, MAX_FILE_BYTES)
        except UNPACKING_ERRORS as error:
            reason = first_line(error)
            raise DamagedImageError(f"{name}: cannot be unpacked ({reason}); copy or make the zip again") from error

    def quick_key(self) -> str:
        return self.checksum()

    def checksum(self) -> str:
        # The directory's CRC-32 of each file is checked when the file is read, so it stands for the content.
        digest = hashlib.sha256()
        for entry in self._entries:
            line = f"{entry.filename}\0{entry.file_size} {entry.CRC:08x}\0"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class _Task:
    name: str
    data: bytes


def decoded_images(collection: Collection, size: int, channels: int, workers: int) -> Iterator[ImageArray]:
    """Decodes every image in order, on ``workers`` threads; memory does not grow with their number.

    Args:
        collection: The image files.
        size: Height and width in pixels.
        channels: 1 or 3.
        workers: Number of decoding threads.

    Yields:
        uint8 arrays (1, channels, size, size), 0..255.

    Raises:
        DamagedImagesError: some are no images that can be read; all have been looked at.
        ExternalError: one cannot be read from the disk.
    """
    damaged: dict[int, str] = {}
    first = ""
    for index, result in enumerate(_decode_all(collection, size, channels, workers)):
        if isinstance(result, DamagedImageError):
            damaged[index] = _in_short(collection, index, result)
            first = first or str(result)
        elif isinstance(result, ExternalError):
            raise result
        else:
            yield result[None]
    if damaged:
        text = first if len(damaged) == 1 else f"{damaged_text(collection, damaged)}; replace or remove them"
        error = DamagedImagesError(f"{text}, or leave out what is damaged with --skip-damaged")
        error.damaged = damaged
        raise error


def _in_short(collection: Collection, index: int, error: DamagedImageError) -> str:
    """What is wrong with a file, without its name and what can be done."""
    problem = str(error).removeprefix(f"{collection.path}: {collection.names[index]}: ").rpartition("; ")[0]
    if problem.startswith("cannot be read as"):
        problem = problem.partition(" (")[2].removesuffix(")")
    return problem


def damaged_text(collection: Collection, damaged: Mapping[int, str]) -> str:
    """How many images are damaged, and the first of them by name.

    Args:
        collection: with the damaged files.
        damaged: index of each -> what is wrong.
    """
    named = [f"{collection.names[i]} ({damaged[i]})" for i in list(damaged)[:_NAMED_DAMAGED]]
    more = f" and {len(damaged) - len(named):,} more" if len(damaged) > len(named) else ""
    count = f"{len(damaged):,} of {len(collection.names):,} images"
    return f"{collection.path}: {count} cannot be read: {', '.join(named)}{more}"


def sides_of(collection: Collection, most: int = 1000) -> Iterator[int]:
    """The shorter sides, in pixels, of up to ``most`` images spread evenly over the collection.

    Those that cannot be read are left out, since whoever reads them all names them all.

    Raises:
        ExternalError: none can be read.
    """
    error, count = None, 0
    for i in np.unique(np.linspace(0, len(collection.names) - 1, most).round().astype(int)):
        name = f"{collection.path}: {collection.names[i]}"
        try:
            with open_image(collection.read(i), _FORMATS, name, "replace or remove it", header_only=True) as image:
                side = min(image.size)
        except ExternalError as each:
            error = each
        else:
            count += 1
            yield side
    if error is not None and not count:
        raise error


def unreadable_images(collection: Collection, workers: int) -> Iterator[ExternalError | None]:
    """Opens every image in order and yields its error, or None if it has none."""
    for result in _decode_all(collection, 1, 3, workers):
        yield result if isinstance(result, ExternalError) else None


def _decode_all(
    collection: Collection, size: int, channels: int, workers: int
) -> Iterator[ImageArray | ExternalError]:
    """Yields every image in order, or its error; square with a side of ``size`` pixels."""

    def tasks() -> Iterator[_Task | ExternalError]:
        # One thread reads: zipfile's reference counts are not made for several.
        for index, name in enumerate(collection.names):
            try:
                yield _Task(f"{collection.path}: {name}", collection.read(index))
            except ExternalError as error:
                yield error

    def work(task: _Task | ExternalError) -> ImageArray | ExternalError:
        if isinstance(task, ExternalError):
            return task
        try:
            with open_image(task.data, _FORMATS, task.name, "replace or remove it") as image:
                return to_array(fit(_upright(image, task.data, channels), size))
        except ExternalError as error:
            return DamagedImageError(str(error))

    yield from ordered_map(work, tasks(), workers)


def _upright(image: Image.Image, content: bytes, channels: int) -> Image.Image:
    """An upright grey (``L``) or ``RGB`` image, its transparency put on white."""
    orientation, transparent = image.info["orientation"], _transparent_pixels(image, content)
    if image.mode.startswith("I"):
        sixteen = np.asarray(image, dtype=np.int32).clip(0, 65535)
        image = Image.fromarray(((sixteen * 255 + 32767) // 65535).astype(np.uint8))
    if transparent is not None:
        pixels = np.array(image)
        pixels[transparent] = 255
        image = Image.fromarray(pixels)
    elif "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return image.convert("L" if channels == 1 else "RGB")


def _transparent_pixels(image: Image.Image, content: bytes) -> npt.NDArray[np.bool_] | None:
    """Where a PNG has its transparent color, bool (H, W), at depths of which Pillow compares other values.

    Pillow compares the chunk's value with scaled pixels of 2 and 4 bits, and with high bytes of 16-bit colors.
    """
    depth, color, key = png_header(content) if image.format == "PNG" else (8, 0, None)
    if key is None or depth in (1, 8) or color not in (0, 2):
        return None
    pixels = np.asarray(image)
    if color == 0:
        value = int.from_bytes(key[:2], "big")
        return np.asarray(pixels == (value if depth == 16 else value * 255 // (2**depth - 1)))
    with open_image(low_bytes(content), ("PNG",)) as low:
        equal = (pixels == np.frombuffer(key[0:6:2], np.uint8)) & (
            np.asarray(low) == np.frombuffer(key[1:6:2], np.uint8)
        )
    return np.asarray(equal.all(axis=2))
