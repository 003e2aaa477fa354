"""Files of one JSON object per line: metrics.jsonl and evaluations.jsonl."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from d3gan.files import disk_errors, write_text


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """The lines of evaluations.jsonl, without one cut short by a crash; none where there is no file.

    Raises:
        ExternalError: the file cannot be read.
    """
    lines = []
    with disk_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for row in text.splitlines():
        try:
            lines.append(json.loads(row))
        except ValueError:
            continue
    return [line for line in lines if isinstance(line, dict)]


def keep_lines_up_to(path: Path, last_step: int) -> None:
    """Drops what a .jsonl file says of steps after ``last_step``, and a last line cut short by a crash.

    Raises:
        ExternalError: the file cannot be written.
    """

    def wanted(line: str) -> bool:
        try:
            return bool(json.loads(line)["step"] <= last_step)
        except (ValueError, KeyError, TypeError):
            return False

    if path.exists():
        _rewrite(path, wanted)


def _rewrite(path: Path, wanted: Callable[[str], bool]) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(line for line in text.splitlines(keepends=True) if wanted(line))
    if kept != text:
        write_text(path, kept)
