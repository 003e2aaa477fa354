"""Checkpoints: written whole, numbered by step, verified when they are read."""

import io
import logging
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from d3gan.errors import ExternalError, first_line
from d3gan.files import disk_errors, read_file, replace_file
from d3gan.runs.directory import checkpoint_path

logger = logging.getLogger("d3gan")


class DamagedCheckpointError(ExternalError):
    """A checkpoint's content is not what was written."""


FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{8,})\.pt")


def checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest step first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("*.pt") if path.is_file())
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes the checkpoint of a step, then deletes all but the last two.

    Args:
        folder: made where it is missing.
        step: steps done.
        state: tensors, numbers, strings, lists and dicts of those: what ``torch.load(weights_only=True)`` reads.

    Raises:
        ExternalError: the disk is full or read-only; older checkpoints are untouched.
    """
    path = checkpoint_path(folder, step)
    write_checkpoint(path, step, state)
    remove_old(folder, path)
    return path


def remove_old(folder: Path, newest: Path) -> None:
    """Deletes all checkpoints but the newest and the one before, and what a killed process left of one.

    Raises:
        ExternalError: the folder is read-only.
    """
    with disk_errors(folder):
        for old in [p for p in checkpoints(folder) if p != newest][: -(KEPT - 1)]:
            old.unlink(missing_ok=True)
        for leftover in folder.glob("*.pt.tmp"):
            if leftover.is_file():
                leftover.unlink(missing_ok=True)


def write_checkpoint(path: Path, step: int, state: dict[str, Any]) -> None:
    """Writes one checkpoint, whole or not at all; arguments and errors as for ``save_checkpoint``."""
    # Through memory: where the disk is full, PyTorch's own writer raises an error that no longer says so.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **state}, buffer)
    with replace_file(path) as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU and verifies every byte of it; no code in it is run.

    What it takes in memory is at most twice the file: records are stored, never packed, and each is read once.

    Raises:
        DamagedCheckpointError: its content is not what was written.
        ExternalError: it cannot be read, or has a format that this version does not know.
    """
    with disk_errors(path):
        content = io.BytesIO(read_file(path))
    try:
        _check_records(content)
        content.seek(0)
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        version, step = state["format"], state["step"]
        if version == FORMAT and (type(step) is not int or step < 0):
            raise ValueError(f"step = {step!r}")
        if (name := _NAME.fullmatch(path.name)) and version == FORMAT and step != int(name[1]):
            raise ValueError(f"it is of step {step}, not of that in its name")
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
        raise DamagedCheckpointError(f"{path}: is no usable checkpoint ({first_line(error)})") from error
    if version != FORMAT:
        raise ExternalError(f"{path}: has checkpoint format {version!r:.20}, this version of d3gan reads {FORMAT}")
    return state


# What the pickle in our checkpoints names: torch.load allows more, such as a bytearray of any length.
_GLOBALS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch (?!Untyped|Typed)\w+Storage")


def _check_records(content: io.BytesIO) -> None:
    """Compares the records' checksums, which torch.load does not, and what they claim to need with what is there.

    Raises:
        An exception of any kind: this is no checkpoint as ``write_checkpoint`` writes it.
    """
    with zipfile.ZipFile(content) as archive:
        entries = archive.infolist()
        if packed := [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
            raise zipfile.BadZipFile(f"{packed[0].filename} is packed, which records of checkpoints are not")
        if sum(entry.file_size for entry in entries) > content.getbuffer().nbytes:
            raise zipfile.BadZipFile("its records claim more bytes than it has")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        for name in (name for name in archive.namelist() if name.endswith("data.pkl")):
            for opcode, argument, position in pickletools.genops(archive.read(name)):
                if opcode.name == "STACK_GLOBAL" or (
                    opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument))
                ):
                    raise pickle.UnpicklingError(f"it names {argument} at byte {position}, which no checkpoint has")


def latest_checkpoint(
    folder: Path, use: Callable[[Path, dict[str, Any]], None] = lambda _path, _state: None
) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be used, or None where there is none at all.

    Once an older one has been read, newer damaged ones are set aside as ``NAME.damaged``, with a warning.

    Args:
        folder: of the checkpoints.
        use: given path and content, takes it in; raises DamagedCheckpointError where it does not fit.

    Raises:
        ExternalError: there are checkpoints and none can be used (training from the start would hide that), or one
            cannot be read or was written by another version; nothing is changed.
    """
    paths = checkpoints(folder)
    damaged: list[Path] = []
    for path in reversed(paths):
        try:
            state = load_checkpoint(path)
            use(path, state)
        except DamagedCheckpointError as error:
            logger.warning(f"{error}; trying an older one")
            damaged.append(path)
            continue
        with disk_errors(folder):
            for bad in damaged:
                bad.rename(bad.with_name(bad.name + ".damaged"))
        return path, state
    if paths:
        raise ExternalError(f"{folder}: no usable checkpoint is left; to train from the start, choose another --out")
    return None
