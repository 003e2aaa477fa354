"""Data files: hashed and locked; every fault is told with its path and a way out."""

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
"""Bytes read or written at once."""

LOCK_SECONDS = 0.1
"""Between two looks at a lock that another process holds."""

ANOTHER_FOLDER = "choose another folder with --data-dir or $D3GAN_DATA"


def disk_errors(path: Path) -> AbstractContextManager[None]:
    """As `d3gan.files.disk_errors`, with the ways to choose another data folder."""
    return files.disk_errors(path, ANOTHER_FOLDER)


def write_beside(path: Path) -> AbstractContextManager[IO[Any]]:
    """As `d3gan.files.replace_file`, with the ways to choose another data folder; hold `locked` meanwhile."""
    return files.replace_file(path, ANOTHER_FOLDER)


def make_folder(folder: Path) -> Path:
    """Makes ``folder`` and its parents where they are missing.

    Raises:
        ExternalError: it cannot be made.
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock that guards ``path`` among processes; waits for whoever holds it, and says so.

    The operating system drops the lock with its holder, so a killed process blocks nobody.

    Raises:
        ExternalError: the folder cannot be written.
    """
    lock = try_lock(path)
    if lock is None:
        logger.info(f"{path.name}: another process is at work on it; waiting")
        while lock is None:
            time.sleep(LOCK_SECONDS)
            lock = try_lock(path)
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> "BaseFileLock | None":
    """Takes the lock that guards ``path`` among processes, to be released by the caller; None: another one holds it.

    Raises:
        ExternalError: the folder cannot be written.
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
