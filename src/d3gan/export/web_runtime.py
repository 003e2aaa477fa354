"""onnxruntime-web, which computes networks in a browser: a user's copy, else fetched once; always verified."""

import hashlib
import logging
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from d3gan.data.files import disk_errors, locked, make_folder, replace_file
from d3gan.data.locate import data_folder
from d3gan.data.published.contents import UNPACKING_ERRORS
from d3gan.download import DownloadError, download, npm_archive
from d3gan.errors import ConfigError, ExternalError
from d3gan.files import kind_of, read_file, user_path
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")

VERSION = "1.22.0"
"""The binary grows with every version: 11.2 MB here, 14.2 MB in 1.30.0, with nothing that these networks need."""
PACKAGE = f"onnxruntime-web@{VERSION}"
# The two networks that serve npm's packages file by file; the package itself is 20 MB for the 11 needed.
MIRRORS = (f"https://cdn.jsdelivr.net/npm/{PACKAGE}/dist/", f"https://unpkg.com/{PACKAGE}/dist/")
NPM_SECONDS = 300


@dataclass(frozen=True)
class RuntimeFile:
    """A file of the package's folder ``dist``."""

    name: str
    size: int
    """Bytes."""
    sha256: str


# The smallest build: WebAssembly alone, without WebGPU and WebNN. Its glue is a module that the script loads; with
# one thread it needs no shared memory, which pages opened from a disk cannot have.
SCRIPT = RuntimeFile("ort.wasm.min.js", 48_327, "65e09376df69107e881b5c34d2d37aed333a366b6d941073ec518168e269b87d")
GLUE = RuntimeFile(
    "ort-wasm-simd-threaded.mjs", 20_856, "30dd851d9c00622940500f71ddd2ff8820c5cb65270816080175b958705385a8"
)
BINARY = RuntimeFile(
    "ort-wasm-simd-threaded.wasm", 11_210_254, "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4"
)
FILES = (SCRIPT, GLUE, BINARY)


def obtain_runtime(
    folder: str = "", data_dir: str | Path | None = None, mirrors: tuple[str, ...] = MIRRORS
) -> dict[RuntimeFile, bytes]:
    """The files of the runtime: from a user's folder, else from the data folder, where they are fetched to once.

    Args:
        folder: that holds them, or a package of npm as it is unpacked or installed; empty: the data folder.
        data_dir: see ``data_folder``.
        mirrors: addresses to ask, in order, before npm.

    Raises:
        ConfigError: the user's folder lacks a file.
        ExternalError: a file in it is another version's, or the runtime cannot be fetched; says what was tried.
    """
    if folder:
        return _from_user(folder)
    home = data_folder(data_dir) / f"onnxruntime-web-{VERSION}"
    if contents := _intact(home):
        return contents
    make_folder(home)
    with locked(home):
        if contents := _intact(home):  # another process may have fetched it meanwhile
            return contents
        failures: dict[str, str] = {}
        for mirror in mirrors:
            logger.info(f"{PACKAGE}, once: trying {mirror}")
            try:
                return {file: _download(mirror, file, home) for file in FILES}
            except DownloadError as error:
                failures[urlsplit(mirror).netloc] = str(error)
        logger.info(f"{PACKAGE}, once: trying npm")
        try:
            return _from_npm(home)
        except (DownloadError, *UNPACKING_ERRORS) as error:
            failures["npm"] = str(error)
    reasons = "; ".join(f"{source}: {reason}" for source, reason in failures.items())
    raise ExternalError(
        f"{PACKAGE} is not available ({reasons}); where there is a network run `npm pack {PACKAGE}`, unpack the "
        "archive here, and name its folder with --runtime"
    )


def _problem(content: bytes, file: RuntimeFile) -> str:
    """Why these bytes are not the published file; empty if they are."""
    sha256 = hashlib.sha256(content).hexdigest()
    return "" if sha256 == file.sha256 else f"its SHA-256 is {sha256}, not {file.sha256}: not that of {PACKAGE}"


def _from_user(folder: str) -> dict[RuntimeFile, bytes]:
    top, contents = user_path(folder), {}
    homes = [top, top / "dist", top / "package/dist", top / "onnxruntime-web/dist"]
    home = next((home for home in homes if kind_of(home / BINARY.name)), None)
    if home is None:
        raise ConfigError(f"--runtime {folder}: holds no {BINARY.name}; give the folder dist of {PACKAGE}")
    for file in FILES:
        with disk_errors(home / file.name):
            contents[file] = read_file(home / file.name)
        if problem := _problem(contents[file], file):
            raise ExternalError(f"{home / file.name}: {problem}; get it with `npm pack {PACKAGE}`")
    return contents


def _intact(home: Path) -> dict[RuntimeFile, bytes] | None:
    """The files in a folder; None if one is missing or not as published."""
    contents = {}
    for file in FILES:
        try:
            contents[file] = read_file(home / file.name)
        except OSError:
            return None
        if problem := _problem(contents[file], file):
            logger.info(f"{home / file.name}: not used: {problem}")
            return None
    return contents


def _download(mirror: str, file: RuntimeFile, home: Path) -> bytes:
    """Downloads one file, or raises DownloadError."""
    part = home / f"{file.name}.part"
    with disk_errors(part), progress_bar(file.name, file.size, unit="bytes") as advance:
        download(mirror + file.name, part, file.size, advance)
        content = part.read_bytes()
        part.unlink()  # whether it is right or not: the next attempt must not continue from it
    if problem := _problem(content, file):
        raise DownloadError(problem)
    _write(home, {file: content})
    return content


def _from_npm(home: Path) -> dict[RuntimeFile, bytes]:
    """Takes the files, and nothing else, out of the package's archive, or raises DownloadError."""
    contents = {}
    with tempfile.TemporaryDirectory(prefix="d3gan-npm-") as folder:
        archive = npm_archive(PACKAGE, Path(folder), NPM_SECONDS)
        wanted = {f"package/dist/{file.name}": file for file in FILES}
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                file = wanted.get(member.name)
                if file and member.isfile() and (stream := members.extractfile(member)):
                    contents[file] = stream.read(file.size + 1)
    for file in FILES:
        if problem := _problem(contents.get(file, b""), file):
            raise DownloadError(f"{file.name}: {problem}")
    _write(home, contents)
    logger.info(f"{PACKAGE}: taken from npm, checksums correct")
    return contents


def _write(home: Path, contents: Mapping[RuntimeFile, bytes]) -> None:
    for file, content in contents.items():
        with replace_file(home / file.name) as opened:
            opened.write(content)
