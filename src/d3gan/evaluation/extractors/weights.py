"""The Inception weights: where they lie already, else fetched once; always proved by their checksum."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from d3gan.data.files import disk_errors, hash_file, locked, make_folder
from d3gan.data.load import data_folder
from d3gan.download import DownloadError, download
from d3gan.errors import ConfigError, ExternalError
from d3gan.files import replace
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")


def _load(network: nn.Module, path: Path, what: str) -> None:
    """Puts a file's state dict into a network; no code in the file is run."""
    with disk_errors(path):
        content = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise ExternalError(f"{path}: cannot be read as {what} ({reason}); get it again") from error
    own = network.state_dict()
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ExternalError(f"{path}: is not {what}: no dictionary of tensors")
    # BatchNorm's counts of batches are of no use in eval mode, and some copies lack them.
    own_names = [name for name in own if not name.endswith("num_batches_tracked")]
    unfit = [name for name in own_names if name not in state or state[name].shape != own[name].shape]
    if unfit:
        raise ExternalError(
            f"{path}: is not {what}: {len(unfit)} of {len(own)} entries are missing or of another shape, "
            f"the first is {unfit[0]}"
        )
    if bad := [name for name in own_names if not state[name].isfinite().all()]:
        raise ExternalError(f"{path}: is not {what}: {bad[0]} holds numbers that are not finite")
    network.load_state_dict({name: state[name] for name in own_names}, strict=False)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights as it is published."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    urls: tuple[str, ...]
    """Where it is published; torch's hub keeps a download under the last part of its URL."""


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
    """Checks that a file the user names is the published one, and returns its path.

    Raises:
        ConfigError: there is no such file.
        ExternalError: it is another one, or damaged, or cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"inception_weights = {path}: no such file; it must be {file.name} ({file.size:,} bytes)")
    if why := _problem(path, file):
        raise ExternalError(f"{path}: {why}; get {file.name} from {file.urls[0]}")
    return path


def _problem(path: Path, file: WeightsFile) -> str:
    """Why a file is not the published one; empty where it is."""
    with disk_errors(path):
        size = path.stat().st_size
        if size != file.size:
            return f"is {size:,} bytes long, not {file.size:,}: cut short, or another file"
        found = hash_file(path, "sha256")
    return "" if found == file.sha256 else f"its SHA-256 is {found}, not {file.sha256}: damaged, or another file"


def obtain_inception(
    data_dir: str | Path | None,
    file: WeightsFile = INCEPTION,
) -> Path:
    """The Inception weights on this machine, fetched into the data folder where they are nowhere else.

    Raises:
        ExternalError: they cannot be had; says what was tried.
    """
    home = data_folder(data_dir) / "weights" / file.name
    if found := _at_hand(home, file):
        return found
    tried: dict[str, str] = {}  # host -> why it failed
    make_folder(home.parent)
    with locked(home):
        if found := _at_hand(home, file):  # another process may have fetched it meanwhile
            return found
        for url in file.urls:
            host = urlsplit(url).netloc
            if host in tried:  # did not answer a moment ago
                continue
            logger.info(f"{file.name}: trying {url}")
            try:
                _fetch(url, home, file)
            except DownloadError as error:
                tried[host if error.host_failed else url] = str(error)
            else:
                return home
    reasons = "; ".join(f"{place}: {why}" for place, why in tried.items())
    raise ExternalError(
        f"{file.name} could not be had ({reasons}); put it into {home.parent}, or name it with --inception-weights"
    )


def _at_hand(home: Path, file: WeightsFile) -> Path | None:
    """A sound copy in the data folder, or where pytorch-fid and torch-fidelity keep theirs."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for path in (home, *(hub / url.rsplit("/", 1)[1] for url in file.urls)):
        if path.is_file():
            why = _problem(path, file)
            if not why:
                return path
            logger.info(f"{path}: not used: {why}")
    return None


def _fetch(url: str, home: Path, file: WeightsFile) -> None:
    """Downloads the file to ``home``, or raises DownloadError."""
    part = home.with_name(home.name + ".part")
    with disk_errors(part), progress_bar(file.name, file.size, unit="bytes") as advance:
        download(url, part, file.size, advance)
    if why := _problem(part, file):
        part.unlink()  # kept, it would be taken for a beginning to continue
        raise DownloadError(why)
    with disk_errors(home):
        replace(part, home)
