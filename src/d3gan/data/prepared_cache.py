"""Prepared images as memory-mapped .npy files: written once, found again by the checksum of their source.

A file whose header or length is wrong is written again. Its pixels are not hashed at each start; to prepare them
anew, delete the file.
"""

import io
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from d3gan.data.files import ANOTHER_FOLDER, disk_errors, locked, make_folder, replace_file, safe_file_name
from d3gan.data.preprocess import ImageArray
from d3gan.errors import ExternalError
from d3gan.progress_bar import progress_bar

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
        A read-only memory map, uint8, of ``shape``.

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


def _open(path: Path, shape: Shape) -> ImageArray | None:
    """The memory map of an intact cache file; None if there is none, or it is damaged, which is logged."""
    try:
        images = npy.open_memmap(path, mode="r")
        header_size = path.stat().st_size - images.nbytes
    except FileNotFoundError:
        return None
    # NumPy's parser may raise anything on a damaged header; the file is written again in any case.
    except Exception as error:
        logger.info(f"{path}: is damaged ({error}); preparing it again")
        return None
    if images.shape != shape or images.dtype != np.uint8 or header_size != len(_header(shape)):
        logger.info(f"{path}: is damaged (it is not {shape} unsigned bytes); preparing it again")
        return None
    return images


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
    count = 0
    with (
        replace_file(path) as file,
        progress_bar("preparing images", shape[0], unit="images") as advance,
    ):
        file.write(_header(shape))
        for block in make_blocks():
            file.write(np.ascontiguousarray(block).data)
            count += len(block)
            advance(len(block))
        if count != shape[0]:
            raise ExternalError(f"{path}: {count} images were read where {shape[0]} were expected; run it again")


def prepared_path(folder: Path, name: str, split: str, shape: Shape, checksum: str) -> Path:
    """The cache file in the data folder, with a name that people can read and that identifies the pixels."""
    file_name = f"{safe_file_name(name)}-{split}-{shape[2]}x{shape[3]}x{shape[1]}-{checksum[:16]}.npy"
    return folder / "prepared" / file_name
