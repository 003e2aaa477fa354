"""Content files opened where they lie: plain, inside a .gz or inside a .tar.gz, read in order and never extracted."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from d3gan.data.files import CHUNK, hash_stream
from d3gan.data.published.catalog import Content, OfficialFile
from d3gan.errors import ExternalError

UNPACKING_ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError)
"""What the standard library raises on a file it cannot read or unpack."""


@dataclass(frozen=True)
class Found:
    """A usable copy of an official file.

    Attributes:
        file: What it is a copy of.
        path: The file, where it is as published; else the folder that holds its contents under their names.
        packed: Whether ``path`` is the file as published.
    """

    file: OfficialFile
    path: Path
    packed: bool

    @property
    def folder(self) -> Path:
        """The folder it lies in."""
        return self.path.parent if self.packed else self.path

    def __str__(self) -> str:
        return f"{self.file.name}: found {'in' if self.packed else 'unpacked in'} {self.folder}"


class ContentStream:
    """A content file read from its first byte to its last, whose faults name file and byte offset."""

    def __init__(self, raw: BinaryIO, name: str, remedy: str) -> None:
        self.raw = raw
        self.name = name
        self.offset = 0
        self.remedy = remedy

    def damaged(self, offset: int, expected: str, found: str) -> ExternalError:
        """The error of a file that is not as its format wants it, for the caller to raise."""
        return ExternalError(f"{self.name}: at byte {offset} expected {expected}, found {found}; {self.remedy}")

    def read_up_to(self, size: int) -> bytes:
        """At most ``size`` bytes; fewer only where the file ends.

        Read piece by piece, so that a length claimed by a damaged header takes no memory that the file does not
        fill.

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
        """The next ``size`` bytes, which are ``what``.

        Raises:
            ExternalError: the file ends before, or cannot be read.
        """
        start = self.offset
        data = self.read_up_to(size)
        if len(data) < size:
            raise self.damaged(start, f"{what} ({size} bytes)", f"the end after {len(data)} bytes")
        return data

    def expect_end(self) -> None:
        """Checks that nothing follows.

        Raises:
            ExternalError: something does.
        """
        end = self.offset
        if self.read_up_to(1):
            raise self.damaged(end, "the end of the file", "more bytes")


@contextmanager
def open_content(found: Found, content: Content, dataset_name: str) -> Iterator[ContentStream]:
    """Opens one content of a copy for reading.

    Raises:
        ExternalError: the copy is gone, cannot be opened, or does not hold the content.
    """
    remedy = f"fetch it again with: d3gan data fetch {dataset_name}"
    name = found.path if found.packed else found.path / content.name
    with ExitStack() as opened:
        try:
            raw = _open(found, content, opened)
        except UNPACKING_ERRORS as error:
            raise ExternalError(f"{name}: cannot be opened ({error}); {remedy}") from error
        label = f"{name}: {content.name}" if found.packed and found.file.packing == "tar.gz" else str(name)
        yield ContentStream(raw, label, remedy)


def _open(found: Found, content: Content, opened: ExitStack) -> BinaryIO:
    """The content's bytes; what must be closed after them is put on ``opened``."""
    if not found.packed:
        return opened.enter_context((found.path / content.name).open("rb"))
    if found.file.packing == "none":
        return opened.enter_context(found.path.open("rb"))
    if found.file.packing == "gz":
        return cast(BinaryIO, opened.enter_context(gzip.open(found.path, "rb")))
    archive = opened.enter_context(tarfile.open(found.path, "r:gz"))  # noqa: SIM115 (closed by `opened`)
    return opened.enter_context(_member(archive, content.name))


def _member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    # Iterating stops at the member; getmember() would unpack the whole archive first.
    for member in archive:
        if member.name.removeprefix("./") == name and member.isfile():
            return cast(BinaryIO, archive.extractfile(member))
    raise FileNotFoundError(f"the archive holds no file {name}")


def member_digests(archive: Path, wanted: dict[str, tuple[str, str]]) -> dict[str, str]:
    """The hex digests of a .tar.gz's members, in one pass.

    Args:
        archive: The file.
        wanted: For each member of interest the algorithm's name (and the digest it should have).

    Raises:
        ExternalError: the archive cannot be read to its end.
    """
    digests = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = member.name.removeprefix("./")
                stream = members.extractfile(member) if name in wanted and member.isfile() else None
                if stream:
                    digests[name] = hash_stream(stream, wanted[name][0])
    except UNPACKING_ERRORS as error:
        raise ExternalError(f"{archive}: cannot be unpacked ({error})") from error
    return digests
