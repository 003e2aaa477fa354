"""Prepared images kept as memory-mapped .npy files: made once, found again by the checksum of their source.

A file whose header or length is wrong is made again. Its pixels are not hashed at each start; to have them made anew,
delete the file.
"""

import io
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from d3gan.data.files import ANOTHER_FOLDER, disk_errors, locked, make_folder, write_beside
from d3gan.errors import ExternalError
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")

Images = npt.NDArray[np.uint8]
Shape = tuple[int, int, int, int]


def prepared_images(
    path: Path,
    shape: Shape,
    make_blocks: Callable[[], Iterator[Images]],
) -> Images:
    """The images cached at ``path``, made first where they are missing or damaged.

    Of several processes that want the same cold cache, one makes it and the others wait for it.

    Args:
        path: Where the cache file is, or is to be. Its name must identify the pixels.
        shape: (N, C, S, S) that it must have.
        make_blocks: Yields uint8 blocks (n, C, S, S) that together make up ``shape``.

    Returns:
        A read-only memory map, uint8, of ``shape``.

    Raises:
        ExternalError: the images cannot be made, or the disk is full, or the folder cannot be written.
    """
    images = _open(path, shape)
    if images is None:
        with locked(path):
            # Another process may have made it while this one waited.
            images = _open(path, shape)
            if images is None:
                _write(path, shape, make_blocks)
                images = _open(path, shape)
    if images is None:
        raise ExternalError(f"{path}: is not as it was written a moment ago; check the disk, or {ANOTHER_FOLDER}")
    return images


def _open(path: Path, shape: Shape) -> Images | None:
    """The memory map of a sound cache file; None where there is none, or a damaged one, which is reported."""
    try:
        images = npy.open_memmap(path, mode="r")
        header_size = path.stat().st_size - images.nbytes
    except FileNotFoundError:
        return None
    # A damaged header raises whatever NumPy's parser meets; the file is rebuilt all the same.
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


def _write(path: Path, shape: Shape, make_blocks: Callable[[], Iterator[Images]]) -> None:
    # Written, not mapped: on a full disk a write is an error, but a store into a mapped page kills the process.
    needed = int(np.prod(shape))
    with disk_errors(path):
        free = shutil.disk_usage(make_folder(path.parent)).free
    if free < needed:
        raise ExternalError(
            f"{path}: needs {needed:,} bytes, {free:,} are free; free some space there, or {ANOTHER_FOLDER}"
        )
    count = 0
    with (
        write_beside(path) as file,
        progress_bar("preparing images", shape[0], unit="images") as advance,
    ):
        file.write(_header(shape))
        for block in make_blocks():
            file.write(np.ascontiguousarray(block).data)
            count += len(block)
            advance(len(block))
        if count != shape[0]:
            raise ExternalError(f"{path}: {count} images were read where {shape[0]} were expected; run it again")


def cache_file_name(name: str, split: str, shape: Shape, checksum: str) -> str:
    """A file name that people can read and that identifies the pixels."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:40]
    return f"{safe}-{split}-{shape[2]}x{shape[3]}x{shape[1]}-{checksum[:16]}.npy"
