"""Checkpoints: written whole, numbered by step, verified before they are believed."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from d3gan.errors import WorldError
from d3gan.files import replace_file

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{8,})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return folder / f"step-{step:08d}.pt"


def checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest step first."""
    found = [(int(match[1]), path) for path in folder.glob("*.pt") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes the checkpoint of a step, then deletes all but the last two.

    Args:
        folder: made where it is missing.
        step: steps done.
        state: tensors, numbers, strings, lists and dicts of those: what ``torch.load(weights_only=True)`` reads.

    Raises:
        WorldError: the disk is full or read-only; older checkpoints are untouched.
    """
    path = checkpoint_path(folder, step)
    with replace_file(path) as file:
        torch.save({"format": FORMAT, "step": step, **state}, file)
    for old in [p for p in checkpoints(folder) if p != path][: -(KEPT - 1)]:
        old.unlink(missing_ok=True)
    for leftover in folder.glob("*.pt.tmp"):  # of a process that was killed while it wrote
        leftover.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU and verifies every byte of it; no code in it is run.

    Raises:
        WorldError: damaged, unreadable, or of a format that this version does not know.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself does not compare the checksums of the records
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state["format"]
    except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WorldError(f"{path}: is no usable checkpoint ({reason})") from error
    if found != FORMAT:
        raise WorldError(f"{path}: has checkpoint format {found}, this version of d3gan reads {FORMAT}")
    return state


def latest_checkpoint(folder: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be used, or None where there is none at all.

    Damaged ones are set aside as ``NAME.damaged`` and ``say`` is told.

    Raises:
        WorldError: there are checkpoints and none can be used; training from the start would hide that.
    """
    reasons = []
    for path in reversed(checkpoints(folder)):
        try:
            return path, load_checkpoint(path)
        except WorldError as error:
            reasons.append(str(error))
            say(f"warning: {error}; trying an older one")
            path.rename(path.with_name(path.name + ".damaged"))
    if reasons:
        raise WorldError(f"{folder}: no usable checkpoint is left; to train from the start, choose another --out")
    return None
