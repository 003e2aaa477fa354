"""Checkpoints: written whole, numbered by step, verified when they are read."""

import io
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from d3gan.errors import ExternalError, first_line
from d3gan.files import disk_errors, replace_file
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
    with disk_errors(folder):
        for old in [p for p in checkpoints(folder) if p != path][: -(KEPT - 1)]:
            old.unlink(missing_ok=True)
        for leftover in folder.glob("*.pt.tmp"):  # of a process that was killed while it wrote
            if leftover.is_file():
                leftover.unlink(missing_ok=True)
    return path


def write_checkpoint(path: Path, step: int, state: dict[str, Any]) -> None:
    """Writes one checkpoint, whole or not at all; arguments and errors as for ``save_checkpoint``."""
    # Through memory: where the disk is full, PyTorch's own writer raises an error that no longer says so.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **state}, buffer)
    with replace_file(path) as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU and verifies every byte of it; no code in it is run.

    Raises:
        DamagedCheckpointError: its content is not what was written.
        ExternalError: it cannot be read, or has a format that this version does not know.
    """
    with disk_errors(path):
        content = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:  # torch.load itself does not compare the checksums of the records
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content.seek(0)
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        version = state["format"]
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
        raise DamagedCheckpointError(f"{path}: is no usable checkpoint ({first_line(error)})") from error
    if version != FORMAT:
        raise ExternalError(f"{path}: has checkpoint format {version}, this version of d3gan reads {FORMAT}")
    return state


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
            step = state["step"]
            if not isinstance(step, int) or path != checkpoint_path(folder, step):
                raise DamagedCheckpointError(f"{path}: says that it is of step {step}")
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
