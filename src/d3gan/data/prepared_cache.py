"""Prepared images as memory-mapped .npy files: written once, found again by the checksum of their source.

Beside each lies a file of checksums, one for every 64 KiB. Pixels are compared with them the first time they are read
in a process; small files whole as they are opened, so that damage is mended at once: the images are prepared again.
"""

import io
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from d3gan.data.files import ANOTHER_FOLDER, disk_errors, locked, make_folder, replace_file, safe_file_name, try_lock
from d3gan.data.preprocess import ImageArray
from d3gan.errors import ExternalError, first_line
from d3gan.files import open_file, read_file
from d3gan.progress_bar import progress_bar

CHECKED_BYTES = 1 << 16
"""Bytes that share a checksum, about: a whole number of images."""

CHECKED_AT_ONCE = 1 << 27
"""128 MiB: as much is checked in a tenth of a second as it is opened; larger files as they are read."""

logger = logging.getLogger("d3gan")

Shape = tuple[int, int, int, int]


def prepared_images(
    path: Path,
    shape: Shape,
    make_blocks: Callable[[], Iterator[ImageArray]],
) -> ImageArray:
    """Opens the images cached at ``path``; writes the cache first if it is missing or damaged.

    Of several processes that need the same missing cache, one writes it and the others wait.

    Args:
        path: The cache file; see `prepared_path`.
        shape: (N, C, S, S) that it must have.
        make_blocks: Yields uint8 blocks (n, C, S, S) that together have ``shape``.

    Returns:
        A read-only memory map, uint8, of ``shape``, whose items are checked as they are read; see ``PreparedImages``.

    Raises:
        ExternalError: the images cannot be prepared, the disk is full, or the folder is not writable.
    """
    images = _open(path, shape)
    if images is None:
        with locked(path):
            # Another process may have written it while this one waited.
            images = _open(path, shape)
            if images is None:
                _write(path, shape, make_blocks)
                images = _open(path, shape)
    if images is None:
        raise ExternalError(f"{path}: differs from what was just written; check the disk, or {ANOTHER_FOLDER}")
    return images


class PreparedImages(np.ndarray[Any, np.dtype[np.uint8]]):
    """Memory-mapped images; indexing compares them with their checksums, and looks whether they are still there.

    A page of a mapped file that was cut short ends the process without a word. So what is indexed is looked for in
    the file first. Other operations see the pixels as they are: take ``images[:]`` before them.
    """

    checks: "_Checks | None" = None

    def __getitem__(self, index: Any) -> Any:
        if self.checks is not None:
            self.checks.before_reading(index)
        return self.view(np.ndarray)[index]


class _Checks:
    """What is known about the bytes of an opened file."""

    def __init__(self, path: Path, file: BinaryIO, images: ImageArray, sums: npt.NDArray[np.uint32]) -> None:
        self._path, self._images, self._sums = path, images, sums
        self._descriptor = os.dup(file.fileno())
        self._size = os.fstat(self._descriptor).st_size
        self._per_block = _images_per_block(images.shape)
        self._unchecked = np.ones(len(sums), np.bool_)
        self._left = len(sums)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def before_reading(self, index: Any) -> None:
        """Checks the images that an index takes, and that the file has its length.

        Raises:
            ExternalError: their bytes are not those that were written; the file is removed, to be made again.
        """
        size = os.fstat(self._descriptor).st_size
        if size != self._size:
            self._give_up(f"was changed while in use, from {self._size:,} to {size:,} bytes")
        if not self._left:
            return
        rows = index[0] if isinstance(index, tuple) else index
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self._images)))
        elif rows is Ellipsis or rows is None:
            rows = np.arange(len(self._images))
        rows = np.asarray(rows)
        rows = np.nonzero(rows)[0] if rows.dtype == np.bool_ else rows % len(self._images)
        blocks = np.unique(rows // self._per_block)
        for block in blocks[self._unchecked[blocks]]:
            if not self.is_intact(int(block)):
                self._give_up(f"is damaged (images from {block * self._per_block:,} on)")
        self._left -= int(self._unchecked[blocks].sum())
        self._unchecked[blocks] = False

    def is_intact(self, block: int) -> bool:
        """Whether the checksum of a block is that of its bytes."""
        images = self._images[block * self._per_block : (block + 1) * self._per_block]
        return zlib.crc32(images.data) == int(self._sums[block])

    def all_intact(self) -> bool:
        """Checks everything that is left."""
        intact = all(self.is_intact(block) for block in range(len(self._sums)))
        self._left = 0 if intact else self._left
        return intact

    def _give_up(self, problem: str) -> None:
        with suppress(OSError):
            self._path.unlink()
        raise ExternalError(f"{self._path}: {problem}; run the same command again: it prepares these images anew")


def _images_per_block(shape: tuple[int, ...]) -> int:
    return max(1, CHECKED_BYTES // int(np.prod(shape[1:])))


def _open(path: Path, shape: Shape) -> ImageArray | None:
    """The memory map of an intact cache file; None if there is none, or it is damaged, which is logged."""
    try:
        file = open_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.info(f"{path}: {error.strerror}; preparing it again")
        return None
    problem = f"it is not {shape} unsigned bytes"
    # NumPy's parser may raise anything on a damaged header; the file is written again in any case.
    try:
        with file:
            npy.read_magic(file)
            header = npy.read_array_header_1_0(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
            if header == (shape, False, np.dtype(np.uint8)) and size == offset + int(np.prod(shape)):
                images = np.memmap(file, np.uint8, "r", offset, shape)
                sums = _read_sums(path, images)
                if sums is not None:
                    prepared = images.view(PreparedImages)
                    prepared.checks = _Checks(path, file, images.view(np.ndarray), sums)
                    if images.nbytes > CHECKED_AT_ONCE or prepared.checks.all_intact():
                        return prepared
                problem = "its checksums differ from its pixels"
    except Exception as error:
        problem = first_line(error)
    logger.info(f"{path}: is damaged ({problem}); preparing it again")
    return None


def _sums_path(path: Path) -> Path:
    return path.with_name(path.name + ".crc32")


def _read_sums(path: Path, images: ImageArray) -> npt.NDArray[np.uint32] | None:
    """The checksums of a cache file's blocks; None: their file is damaged.

    Caches of earlier versions have none. They are believed, once, and get them, unless the folder is read-only.
    """
    count = -(-len(images) // _images_per_block(images.shape))
    try:
        content = read_file(_sums_path(path), 4 * (count + 1))
    except FileNotFoundError:
        summing = _Summing(images.shape)
        for start in range(0, len(images), 1000):
            summing.add(images[start : start + 1000])
        with suppress(ExternalError):
            # Not waited for: this process may hold it already.
            if lock := try_lock(path):
                try:
                    summing.write(path)
                finally:
                    lock.release()
        return summing.sums()
    except OSError:
        return None
    if len(content) != 4 * (count + 1) or zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        return None
    return np.frombuffer(content[:-4], "<u4").astype(np.uint32)


class _Summing:
    """The checksums of blocks, of images that arrive in parts of any length."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._block_bytes = _images_per_block(shape) * int(np.prod(shape[1:]))
        self._sums: list[int] = []
        self._sum, self._filled = 0, 0

    def add(self, images: ImageArray) -> None:
        """Goes on with these images."""
        rest = np.ascontiguousarray(images).data.cast("B")
        while len(rest):
            part = rest[: self._block_bytes - self._filled]
            rest = rest[len(part) :]
            self._sum, self._filled = zlib.crc32(part, self._sum), self._filled + len(part)
            if self._filled == self._block_bytes:
                self._sums.append(self._sum)
                self._sum, self._filled = 0, 0

    def sums(self) -> npt.NDArray[np.uint32]:
        """Those of all blocks, the last of which may be shorter."""
        return np.array(self._sums + ([self._sum] if self._filled else []), np.uint32)

    def write(self, path: Path) -> None:
        """Writes the checksums of the cache file at ``path``, and one of themselves."""
        content = self.sums().astype("<u4").tobytes()
        with replace_file(_sums_path(path)) as file:
            file.write(content + zlib.crc32(content).to_bytes(4, "little"))


def _header(shape: Shape) -> bytes:
    """The .npy header of a C-ordered uint8 array."""
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _write(path: Path, shape: Shape, make_blocks: Callable[[], Iterator[ImageArray]]) -> None:
    # Written, not mapped: on a full disk a write raises, but a store into a mapped page kills the process.
    needed = int(np.prod(shape))
    with disk_errors(path):
        free = shutil.disk_usage(make_folder(path.parent)).free
    if free < needed:
        raise ExternalError(
            f"{path}: needs {needed:,} bytes, {free:,} are free; free some space there, or {ANOTHER_FOLDER}"
        )
    count, summing = 0, _Summing(shape)
    with (
        replace_file(path) as file,
        progress_bar("preparing images", shape[0], unit="images") as advance,
    ):
        file.write(_header(shape))
        for block in make_blocks():
            file.write(np.ascontiguousarray(block).data)
            summing.add(block)
            count += len(block)
            advance(len(block))
        if count != shape[0]:
            raise ExternalError(f"{path}: {count} images were read where {shape[0]} were expected; run it again")
        file.flush()
        # Before the images get their name: a process that is killed between the two leaves nothing that is believed.
        summing.write(path)


def prepared_path(folder: Path, name: str, split: str, shape: Shape, checksum: str) -> Path:
    """The cache file in the data folder, with a name that people can read and that identifies the pixels."""
    file_name = f"{safe_file_name(name)}-{split}-{shape[2]}x{shape[3]}x{shape[1]}-{checksum[:16]}.npy"
    return folder / "prepared" / file_name
