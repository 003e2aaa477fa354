"""Files that are written whole or not at all; every disk error names its path and a way out."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from d3gan.errors import ExternalError

ANOTHER_FOLDER = "choose another folder"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(path: Path, way_out: str = ANOTHER_FOLDER) -> Iterator[None]:
    """Turns an operating-system error inside the block into an ExternalError that names ``path`` and a way out."""
    try:
        yield
    except OSError as error:
        first = "free some space there" if error.errno in _NO_SPACE else "check that it is there and permitted"
        raise ExternalError(f"{path}: {error.strerror or error}; {first}, or {way_out}") from error


def user_path(text: str | Path) -> Path:
    """A path as the user wrote it, with ``~`` as the home folder; where none is known, ``~`` stays."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # pathlib's raises where no home is known


def refuse_unwritable(folder: Path) -> None:
    """Makes a folder if it is missing, and checks that files can be written there.

    Raises:
        ExternalError: they cannot.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def replace(part: Path, path: Path) -> None:
    """Gives a finished, flushed ``part`` its final name, so that it outlives a power cut; lets OSError through."""
    part.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def replace_file(path: Path, way_out: str = ANOTHER_FOLDER) -> Iterator[IO[Any]]:
    """A binary file that gets the name ``path`` when the block succeeds, and is deleted otherwise.

    Whatever happens, ``path`` holds either its old content or all of the new. The name it is written under is fixed,
    so what a killed process left is overwritten: where two processes may write one path, hold a lock.

    Args:
        path: its folder is made where it is missing.
        way_out: for the error: what else the user could do.

    Raises:
        ExternalError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(path.name + ".tmp")
    with disk_errors(path, way_out):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with disk_errors(path, way_out):
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all.

    Raises:
        ExternalError: as ``replace_file``.
    """
    with replace_file(path) as file:
        file.write(text.encode())
