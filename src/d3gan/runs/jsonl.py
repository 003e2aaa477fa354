"""metrics.jsonl and evaluations.jsonl: one JSON object per line, with its step."""

import json
from pathlib import Path
from typing import Any

from d3gan.files import disk_errors, kind_of, open_file, read_file, write_text

_LINE_BYTES = 64 << 10  # more than the last lines of a file take
_TAIL_BYTES = 1 << 10  # before a position: enough to tell the losses of one line from those of another
_READ_BYTES = 4 << 20  # at a time, of a long file


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without one cut short by a crash; none if there is no file.

    Raises:
        ExternalError: the file cannot be read.
    """
    with disk_errors(path):
        content = read_file(path) if kind_of(path) else b""
    return [record for line in content.splitlines() if (record := _record(line)) is not None]


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a file; empty if there is none. Reads only the end of a long file."""
    return next(reversed(last_lines(path)), {})


def last_lines(path: Path, *, whole_file: bool = False) -> list[dict[str, Any]]:
    """The whole lines at the end of a file, or all; none if it cannot be read, since a run may be writing it."""
    try:
        with open_file(path) as file:
            start = 0 if whole_file else max(0, path.stat().st_size - _LINE_BYTES)
            file.seek(start)
            lines = file.read().splitlines()
    except OSError:  # it is not there, or is no file
        return []
    return [record for line in lines if (record := _record(line)) is not None]


class FollowedLines:
    """A file that a run appends to, read on from where the last look ended.

    Args:
        path: of the file; it need not be there yet.
    """

    def __init__(self, path: Path):
        self._path = path
        self._clear()

    def _clear(self) -> None:
        self._seen: tuple[int, ...] = ()
        self._position, self._tail = 0, b""

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Reads the whole lines that are new, at most 4 MiB of them: call it until there are none.

        A file that did not change since the last look is not opened. A last line without its end is left for the next
        look.

        Returns:
            Whether all earlier lines are void, because the file was cut, replaced or removed, as when a run resumes
            from an earlier checkpoint; and the new lines.
        """
        anew = False
        try:
            status = self._path.stat()
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return False, []
            with open_file(self._path) as file:
                file.seek(self._position - len(self._tail))
                if file.read(len(self._tail)) != self._tail:
                    anew = True
                    self._clear()
                    file.seek(0)
                content = file.read(_READ_BYTES)
        except OSError:  # it is not there, or is no file
            anew = self._position > 0
            self._clear()
            return anew, []
        end = content.rfind(b"\n") + 1
        if len(content) < _READ_BYTES:
            self._seen = seen
        elif not end:  # no line of ours is that long
            end = len(content)
        self._position += end
        self._tail = (self._tail + content[:end])[-_TAIL_BYTES:]
        return anew, [record for line in content[:end].splitlines() if (record := _record(line)) is not None]


def keep_lines_up_to(path: Path, last_step: int) -> None:
    """Drops the lines of steps after ``last_step``, and a last line cut short by a crash.

    Raises:
        ExternalError: the file cannot be written.
    """
    with disk_errors(path):
        if not kind_of(path):
            return
        text = read_file(path).decode("utf-8", errors="replace")
    kept = "".join(f"{line}\n" for line in text.split("\n") if _is_up_to(line, last_step))
    if kept != text:
        write_text(path, kept)


def _is_up_to(line: str, last_step: int) -> bool:
    record = _record(line.encode()) or {}
    step = record.get("step")
    return isinstance(step, int) and step <= last_step


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # cut short by a crash, or no text, or not ours
        return None
    return record if isinstance(record, dict) else None
