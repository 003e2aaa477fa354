"""Arrays of .npz files from anywhere: no code in them is run, and memory follows the bytes that are there."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from d3gan.archives import open_zip, unpacked
from d3gan.errors import first_line
from d3gan.files import open_file

_VERSIONS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class UnreadableArrayError(ValueError):
    """A member of an .npz is no array, or not the one it claims to be; the message names the array."""


@contextmanager
def open_arrays(path: Path) -> Iterator["Arrays"]:
    """Opens an .npz file.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        ExternalError: it is no zip.
    """
    with open_file(path) as file, open_zip(file, path) as archive:
        yield Arrays(file, archive)


class Arrays:
    """The arrays of an opened .npz."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self._file = file
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array, read from its first bytes.

        Raises:
            UnreadableArrayError: there is none of that name, or its header is damaged.
        """
        shape, dtype, _, _ = self._opened(name)
        return shape, dtype

    def read(self, name: str, limit: int) -> npt.NDArray[Any]:
        """A whole array of at most ``limit`` bytes.

        Raises:
            UnreadableArrayError: as ``header``; the array is larger, damaged, or holds Python objects.
        """
        shape, dtype, in_columns, member = self._opened(name)
        size = math.prod(shape) * dtype.itemsize
        if size > limit:
            raise UnreadableArrayError(f"{name}: {size:,} bytes of shape {shape!s:.60}, above {limit:,}")
        with _naming(name):
            content = member.read(size)
            member.expect_end()
            return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")

    def blocks(self, name: str, count: int) -> Iterator[npt.NDArray[Any]]:
        """An array in blocks of ``count`` along its first axis, which may be shorter at the end.

        Raises:
            UnreadableArrayError: as ``read``; it is stored column by column.
        """
        shape, dtype, in_columns, member = self._opened(name)
        if in_columns:
            raise UnreadableArrayError(f"{name}: is stored column by column; save it row by row (C order)")
        size = math.prod(shape[1:]) * dtype.itemsize
        for start in range(0, shape[0], count):
            rows = min(count, shape[0] - start)
            with _naming(name):
                block = np.frombuffer(member.read(rows * size), dtype).reshape(rows, *shape[1:])
            yield block
        with _naming(name):
            member.expect_end()

    def _opened(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any], bool, "_Member"]:
        """Shape, type, whether it is stored column by column, and the member after its header."""
        if name not in self._entries:
            raise UnreadableArrayError(f"{name}: there is no such array")
        entry = self._entries[name]
        member = _Member(unpacked(self._file, entry))
        with _naming(name):
            version = npy.read_magic(cast(BinaryIO, member))
            if version not in _VERSIONS:
                raise ValueError(f"format {version} is unknown")
            shape, in_columns, dtype = _VERSIONS[version](cast(BinaryIO, member))
            if dtype.hasobject:
                raise ValueError("holds Python objects, which may run code")
            if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != entry.file_size - member.position:
                raise ValueError(f"claims shape {shape!s:.60} of {dtype!s:.20} and has another number of bytes")
        return shape, dtype, in_columns, member


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turns whatever a damaged array raises into one kind of error that names it."""
    try:
        yield
    except Exception as error:  # unpacking, and NumPy's parser, which is Python's own
        raise UnreadableArrayError(f"{name}: {first_line(error)}") from error


class _Member:
    """A zip's member as a file that is read forwards."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only at the end."""
        parts, missing = [], size
        while missing:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece[:missing])
            self._rest = piece[missing:]
            missing -= len(parts[-1])
        self.position += size - missing
        return b"".join(parts)

    def expect_end(self) -> None:
        """Reads on to the end, at which the checksum is compared; raises ValueError if there is more."""
        if self._rest or next(self._pieces, b""):
            raise ValueError("has more bytes than its shape")
