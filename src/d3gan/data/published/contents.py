"""Content files read in order without extracting them: plain, inside a .gz or inside a .tar.gz."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from d3gan.data.files import CHUNK, hash_stream
from d3gan.data.published.catalog import Content, Dataset, OfficialFile
from d3gan.errors import ExternalError
from d3gan.files import open_file

UNPACKING_ERRORS = (OSError, EOFError, ValueError, MemoryError, zlib.error, tarfile.TarError)
"""Errors of the standard library on a file that it cannot read or unpack."""


@dataclass(frozen=True)
class FileCopy:
    """A copy of an official file on this machine.

    Attributes:
        file: What it is a copy of.
        path: The file itself if ``packed``, else the folder that holds its contents under their names.
        packed: Whether ``path`` is the file as published.
    """

    file: OfficialFile
    path: Path
    packed: bool

    @property
    def folder(self) -> Path:
        """The folder that holds it."""
        return self.path.parent if self.packed else self.path

    def __str__(self) -> str:
        return f"{self.file.name}: found {'in' if self.packed else 'unpacked in'} {self.folder}"


class ContentStream:
    """A content file read from its first byte to its last; errors name the file and the byte offset."""

    def __init__(self, raw: BinaryIO, name: str, remedy: str) -> None:
        self.raw = raw
        self.name = name
        self.offset = 0
        self.remedy = remedy

    def damaged(self, offset: int, expected: str, found: str) -> ExternalError:
        """The error of a file that violates its format, for the caller to raise."""
        return ExternalError(f"{self.name}: at byte {offset} expected {expected}, found {found}; {self.remedy}")

    def read_up_to(self, size: int) -> bytes:
        """Reads at most ``size`` bytes; fewer only at the end of the file.

        Reads piece by piece, so that a wrong length in a damaged header takes no more memory than the file's bytes.

        Raises:
            ExternalError: the file cannot be read or unpacked.
        """
        pieces = []
        while size > 0:
            try:
                piece = self.raw.read(min(size, CHUNK))
            except UNPACKING_ERRORS as error:
                raise self.damaged(self.offset, "readable data", str(error)) from error
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            self.offset += len(piece)
        return b"".join(pieces)

    def read_exactly(self, size: int, what: str) -> bytes:
        """Reads the next ``size`` bytes, called ``what`` in errors.

        Raises:
            ExternalError: the file is too short, or cannot be read.
        """
        start = self.offset
        data = self.read_up_to(size)
        if len(data) < size:
            raise self.damaged(start, f"{what} ({size} bytes)", f"the end after {len(data)} bytes")
        return data

    def expect_end(self) -> None:
        """Checks that the file has ended.

        Raises:
            ExternalError: it has not.
        """
        end = self.offset
        if self.read_up_to(1):
            raise self.damaged(end, "the end of the file", "more bytes")


@contextmanager
def open_content(dataset: Dataset, copies: Mapping[str, FileCopy], name: str) -> Iterator[ContentStream]:
    """Opens one content file for reading.

    Args:
        dataset: The data set.
        copies: For each content's name the copy that holds it.
        name: Which content.

    Raises:
        ExternalError: the copy is gone, cannot be opened, or does not hold the content.
    """
    copy, content = copies[name], dataset.content(name)[1]
    remedy = f"fetch it again with: d3gan data fetch {dataset.name}"
    path = copy.path if copy.packed else copy.path / content.name
    with ExitStack() as stack:
        try:
            raw = _open(copy, content, stack)
        except UNPACKING_ERRORS as error:
            raise ExternalError(f"{path}: cannot be opened ({error}); {remedy}") from error
        label = f"{path}: {content.name}" if copy.packed and copy.file.packing == "tar.gz" else str(path)
        yield ContentStream(raw, label, remedy)


def _open(copy: FileCopy, content: Content, stack: ExitStack) -> BinaryIO:
    """The content's bytes; ``stack`` closes all that was opened."""
    if not copy.packed:
        return stack.enter_context(open_file(copy.path / content.name))
    file = stack.enter_context(open_file(copy.path))
    if copy.file.packing == "none":
        return file
    if copy.file.packing == "gz":
        return cast(BinaryIO, stack.enter_context(gzip.open(file, "rb")))
    archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:gz"))  # noqa: SIM115 (closed by `stack`)
    # Iterating stops at the member; getmember() would unpack the whole archive first.
    for member in archive:
        if member.name.removeprefix("./") == content.name and member.isfile():
            return stack.enter_context(cast(BinaryIO, archive.extractfile(member)))
    raise FileNotFoundError(f"the archive holds no file {content.name}")


def member_digests(archive: Path, algorithms: Mapping[str, str]) -> dict[str, str]:
    """The hex digests of a .tar.gz's members, in one pass.

    Args:
        archive: The file.
        algorithms: For each member of interest the hash algorithm's name.

    Raises:
        ExternalError: the archive cannot be read to its end.
    """
    digests = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = member.name.removeprefix("./")
                stream = members.extractfile(member) if name in algorithms and member.isfile() else None
                if stream:
                    digests[name] = hash_stream(stream, algorithms[name])
    except UNPACKING_ERRORS as error:
        raise ExternalError(f"{archive}: cannot be unpacked ({error})") from error
    return digests
