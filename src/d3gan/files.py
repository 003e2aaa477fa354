"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from d3gan.errors import WorldError


@contextmanager
def replace_file(path: Path) -> Iterator[IO[Any]]:
    """Opens a binary file beside ``path``; when the block ends well it is flushed to disk and takes that name.

    Whatever happens, ``path`` holds either its old content or all of the new.

    Raises:
        WorldError: the folder cannot be written, or the disk is full.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        part.replace(path)
        part = None
        sync_folder(path.parent)
    except OSError as error:
        raise WorldError(
            f"{path}: cannot be written: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename in a folder outlast a power cut, where the system lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all.

    Raises:
        WorldError: as ``replace_file``.
    """
    with replace_file(path) as file:
        file.write(text.encode())
