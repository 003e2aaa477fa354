"""Files on disk: hashed, locked, written beside and renamed; every fault is told with its path and a way out."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from d3gan.errors import WorldError

CHUNK = 1 << 20
"""Bytes read or written at once."""

Report = Callable[[str], None]
"""Takes one plain line about one event."""

ANOTHER_FOLDER = "choose another folder with --data-dir or $D3GAN_DATA"

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def silent(_line: str) -> None:
    """A report that nobody reads."""


def world_error(path: Path, error: OSError) -> WorldError:
    """The one line that tells ``error``, met at ``path``, and what to do about it."""
    why = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return WorldError(f"{path}: {why}; free some space there, or {ANOTHER_FOLDER}")
    return WorldError(f"{path}: {why}; check that it is there and permitted, or {ANOTHER_FOLDER}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an operating-system error inside the block into a WorldError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise world_error(path, error) from error


def make_folder(folder: Path) -> Path:
    """Makes ``folder`` and its parents where they are missing.

    Raises:
        WorldError: it cannot be made.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def hash_stream(stream: _Readable, algorithm: str) -> str:
    """The hex digest of everything left in ``stream``."""
    # MD5 is what the publishers give; it guards against damage here, not against an attacker.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def hash_file(path: Path, algorithm: str) -> str:
    """The hex digest of the file at ``path``; lets OSError through."""
    with path.open("rb") as file:
        return hash_stream(file, algorithm)


def replace(part: Path, path: Path) -> None:
    """Gives a finished, flushed ``part`` its final name, so that it outlives a power cut."""
    part.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def write_beside(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name ``path`` once the block ends well, and vanishes otherwise.

    The name it is written under is fixed, so what a killed process left is overwritten: hold `locked` meanwhile.

    Raises:
        WorldError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(path.name + ".tmp")
    try:
        with disk_errors(path):
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, report: Report = silent) -> Iterator[None]:
    """Holds the lock that guards ``path`` among processes; waits for whoever holds it, and says so.

    The operating system drops the lock with its holder, so a killed process blocks nobody.

    Raises:
        WorldError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    lock = FileLock(path.with_name(path.name + ".lock"))
    with disk_errors(path.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(f"{path.name}: another process is at work on it; waiting")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
