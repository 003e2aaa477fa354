"""Files: written whole or not at all, read only where they are regular; every error names its path and a way out."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from d3gan.errors import ConfigError, ExternalError

ANOTHER_FOLDER = "choose another folder"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def user_path(text: str | Path) -> Path:
    """A path as the user wrote it, ``~`` being the home folder in all of them.

    Raises:
        ConfigError: there is no such home folder, as in a container whose user has none.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{text}: ~ stands for no folder here ({error}); write the whole path") from error


def kind_of(path: Path) -> str:
    """What a path leads to: ``a file``, ``a folder``, ``a FIFO``, ``a link to nothing``, …; empty: nothing is there.

    Raises:
        ExternalError: that cannot be found out: a folder on the way is closed to the user, or the name is too long.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "no file")
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nothing" if path.is_symlink() else ""
    except ValueError:  # a name with a zero byte
        return ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads to itself"
        raise ExternalError(f"{path}: {error.strerror or error}; name another path") from error


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading, in binary.

    Nothing else: opening a FIFO waits until somebody writes to it, for ever perhaps; a device may have no end.

    Raises:
        OSError: as ``open``; its text also says what is there instead of a file.
    """
    try:
        _refuse_irregular(path.stat())
    except FileNotFoundError as error:
        if path.is_symlink():
            raise OSError(errno.ENOENT, f"is a link to nothing ({path.readlink()})") from error
        raise
    # Without waiting, and looked at once more: something else may have taken the file's place meanwhile.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _refuse_irregular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _refuse_irregular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(number, f"is {kind}, not a file")


def read_file(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file.
        limit: the most bytes it may have.

    Raises:
        OSError: as ``open_file``, or the file is longer than the limit.
    """
    with open_file(path) as file:
        content = file.read() if limit is None else file.read(limit + 1)
        if limit is not None and len(content) > limit:
            raise OSError(errno.EFBIG, f"is longer than {limit:,} bytes")
    return content


@contextmanager
def disk_errors(path: Path, way_out: str = ANOTHER_FOLDER) -> Iterator[None]:
    """Turns an operating-system error inside the block into an ExternalError that names ``path`` and a way out."""
    try:
        yield
    except OSError as error:
        first = "free some space there" if error.errno in _NO_SPACE else "check that it is there and permitted"
        raise ExternalError(f"{path}: {error.strerror or error}; {first}, or {way_out}") from error


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
