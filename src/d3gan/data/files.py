"""Hashing and locking of data files; every error names the path and what the user can do."""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from d3gan import files

logger = logging.getLogger("d3gan")

if TYPE_CHECKING:
    from filelock import BaseFileLock

CHUNK = 1 << 20
"""Bytes read or written at a time."""

LOCK_SECONDS = 0.1
"""Interval between two attempts to take a lock that another process holds."""

ANOTHER_FOLDER = "choose another folder with --data-dir or $D3GAN_DATA"


def disk_errors(path: Path) -> AbstractContextManager[None]:
    """Like `d3gan.files.disk_errors`; errors say how to choose another data folder."""
    return files.disk_errors(path, ANOTHER_FOLDER)


def replace_file(path: Path) -> AbstractContextManager[IO[Any]]:
    """Like `d3gan.files.replace_file`; errors say how to choose another data folder. Hold `locked` meanwhile."""
    return files.replace_file(path, ANOTHER_FOLDER)


def make_folder(folder: Path) -> Path:
    """Creates ``folder`` and its parents if they are missing, and returns it.

    Raises:
        ExternalError: it cannot be created.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def safe_file_name(name: str) -> str:
    """The name of a data set or folder as part of a file name, on any system: at most 40 characters."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:40]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def hash_stream(stream: _Readable, algorithm: str) -> str:
    """The hex digest of everything left in ``stream``."""
    # Publishers give MD5; it protects against damage here, not against an attacker.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def hash_file(path: Path, algorithm: str) -> str:
    """The hex digest of the file at ``path``; lets OSError through."""
    with files.open_file(path) as file:
        return hash_stream(file, algorithm)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of ``path`` among processes; logs a line if it has to wait for another process.

    The operating system releases the lock of a process that ends, so a killed process blocks nobody.

    Raises:
        ExternalError: the folder is not writable.
    """
    lock = try_lock(path)
    if lock is None:
        logger.info(f"{path.name}: another process is working on it; waiting")
        while lock is None:
            time.sleep(LOCK_SECONDS)
            lock = try_lock(path)
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> "BaseFileLock | None":
    """Takes the lock of ``path`` among processes, for the caller to release; None if another process holds it.

    Raises:
        ExternalError: the folder is not writable.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    lock = FileLock(path.with_name(path.name + ".lock"))
    with disk_errors(path.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
    return lock
