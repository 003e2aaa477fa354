"""The Inception weights: found on this machine, else downloaded once; always verified by their checksum."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from d3gan.data.files import disk_errors, hash_file, locked, make_folder
from d3gan.data.locate import data_folder
from d3gan.download import DownloadError, download
from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.files import read_file, replace
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")


def load_weights(network: nn.Module, path: Path, what: str) -> None:
    """Loads a file's state dict into a network; runs no code in the file.

    Args:
        network: must have exactly these parameters; is changed in place.
        path: the file.
        what: what the file should hold, for errors.

    Raises:
        ExternalError: the file cannot be read, or does not fit the network.
    """
    with disk_errors(path):
        content = io.BytesIO(read_file(path))
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch may raise anything on a damaged file
        raise ExternalError(f"{path}: cannot be read as {what} ({first_line(error)}); get it again") from error
    expected = network.state_dict()
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ExternalError(f"{path}: is not {what}: no dictionary of tensors")
    # BatchNorm's counts of batches are of no use in eval mode, and some copies lack them.
    names = [name for name in expected if not name.endswith("num_batches_tracked")]
    unfit = [name for name in names if name not in state or state[name].shape != expected[name].shape]
    if unfit:
        raise ExternalError(
            f"{path}: is not {what}: {len(unfit)} of {len(expected)} entries are missing or have another shape, "
            f"first {unfit[0]}"
        )
    if bad := [name for name in names if not state[name].isfinite().all()]:
        raise ExternalError(f"{path}: is not {what}: {bad[0]} holds numbers that are not finite")
    network.load_state_dict({name: state[name] for name in names}, strict=False)


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    urls: tuple[str, ...]
    """Its sources; torch's hub stores a download under the last part of its URL."""


INCEPTION = WeightsFile(
    "pt_inception-2015-12-05-6726825d.pth",
    95_628_359,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
)


def require_official(path: Path, file: WeightsFile = INCEPTION) -> Path:
    """Returns the path of the user's file after checking that it is the published one.

    Raises:
        ConfigError: there is no such file.
        ExternalError: the file is another one, damaged, or unreadable.
    """
    if not path.is_file():
        raise ConfigError(f"inception_weights = {path}: no such file; it must be {file.name} ({file.size:,} bytes)")
    if problem := _problem(path, file):
        raise ExternalError(f"{path}: {problem}; get {file.name} from {file.urls[0]}")
    return path


def _problem(path: Path, file: WeightsFile) -> str:
    """Why a file is not the published one; empty if it is."""
    with disk_errors(path):
        size = path.stat().st_size
        if size != file.size:
            return f"is {size:,} bytes long, not {file.size:,}: cut short, or another file"
        sha256 = hash_file(path, "sha256")
    return "" if sha256 == file.sha256 else f"its SHA-256 is {sha256}, not {file.sha256}: damaged, or another file"


def obtain_inception(
    data_dir: str | Path | None,
    file: WeightsFile = INCEPTION,
) -> Path:
    """Finds the Inception weights on this machine, or downloads them into the data folder.

    Raises:
        ExternalError: the weights are not available; says what was tried.
    """
    path = data_folder(data_dir) / "weights" / file.name
    if copy := _find_copy(path, file):
        return copy
    failures: dict[str, str] = {}  # host, or URL -> why it failed
    make_folder(path.parent)
    with locked(path):
        if copy := _find_copy(path, file):  # another process may have downloaded it meanwhile
            return copy
        for url in file.urls:
            host = urlsplit(url).netloc
            if host in failures:  # the host did not answer a moment ago
                continue
            logger.info(f"{file.name}: trying {url}")
            try:
                _download(url, path, file)
            except DownloadError as error:
                failures[host if error.host_failed else url] = str(error)
            else:
                return path
    reasons = "; ".join(f"{source}: {reason}" for source, reason in failures.items())
    raise ExternalError(
        f"{file.name} is not available ({reasons}); put it into {path.parent}, or name it with --inception-weights"
    )


def _find_copy(path: Path, file: WeightsFile) -> Path | None:
    """An intact copy at ``path``, or where pytorch-fid and torch-fidelity store theirs."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for copy in (path, *(hub / url.rsplit("/", 1)[1] for url in file.urls)):
        if copy.is_file():
            problem = _problem(copy, file)
            if not problem:
                return copy
            logger.info(f"{copy}: not used: {problem}")
    return None


def _download(url: str, path: Path, file: WeightsFile) -> None:
    """Downloads the file to ``path``, or raises DownloadError."""
    part = path.with_name(path.name + ".part")
    with disk_errors(part), progress_bar(file.name, file.size, unit="bytes") as advance:
        download(url, part, file.size, advance)
    if problem := _problem(part, file):
        part.unlink()  # otherwise the next attempt would continue from it
        raise DownloadError(problem)
    with disk_errors(path):
        replace(part, path)
