"""Runs as they are at the moment, read from their folders: only what changed since the last look is read again."""

import hashlib
import math
import os
import stat
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from d3gan.config.ini import load_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.metric_names import PUBLISHED_FID, metrics_of
from d3gan.runs.directory import RunDirectory
from d3gan.runs.environment import read_environment
from d3gan.runs.jsonl import FollowedLines
from d3gan.runs.opening import locked_files
from d3gan.runs.progress import progress_of, seconds_left
from d3gan.status.read import find_runs

MOST_LINES = 800
"""Lines of a file that are remembered; of more, every second one, every fourth, …, and always the last."""
MOST_RUNS = 24
"""Runs that are shown: those that changed last."""
_SURE_SECONDS = 3.0
_UNSURE_SECONDS = 60.0
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_SAMPLE_BYTES = 64 << 20


class Grid(NamedTuple):
    """A sample grid."""

    step: int
    version: str
    """Another one after the file was written anew."""


class Lines:
    """Lines in order of the step: a few hundred, spread evenly, however many there were."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets all."""
        self._lines: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self._count, self._every = 0, 1

    def add(self, line: dict[str, Any]) -> None:
        """Adds a line, unless it has no step or is not later than the last one."""
        step = line.get("step")
        if not isinstance(step, int) or not self._last.get("step", -1) < step < 2**53:
            return
        self._last = line
        if self._count % self._every == 0:
            self._lines.append(line)
        self._count += 1
        if len(self._lines) > MOST_LINES:
            self._lines, self._every = self._lines[::2], 2 * self._every

    def __iter__(self) -> Any:
        return iter(self._lines if not self._last or self._lines[-1:] == [self._last] else [*self._lines, self._last])

    @property
    def last(self) -> Mapping[str, Any]:
        """The last line; empty if there is none."""
        return self._last


class WatchedRun:
    """A run directory as it was at the last look.

    Args:
        path: of the run directory.
    """

    def __init__(self, path: Path):
        self.path, self.directory = path, RunDirectory(path)
        self.key = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:12]
        """Its name in addresses and in the page."""
        self.config: TrainConfig | None = None
        """None: its config.ini cannot be read."""
        self.metrics, self.evaluations = Lines(), Lines()
        self.grids: list[Grid] = []
        """In order of the step."""
        self.size = (0, 0)
        """Width and height of the last sample grid in pixels."""
        self.state = ""
        """As ``STATES`` names it."""
        self._files = [(FollowedLines(self.directory.metrics), self.metrics)]
        self._files += [(FollowedLines(self.directory.evaluations), self.evaluations)]
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._here = False
        self._interval = 0.0

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def changed(self) -> float:
        """When one of its files was written last, in seconds since 1970."""
        return max((seen[-1] / 1e9 for seen in self._seen.values()), default=0.0)

    @property
    def step(self) -> int:
        """Steps so far."""
        return max(int(lines.last.get("step", 0)) for lines in (self.metrics, self.evaluations))

    @property
    def last_step(self) -> int | None:
        """The last step; None while that is unknown."""
        return progress_of(self.config, self.metrics.last)[1] if self.config is not None else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training left; None if it does not train, or not yet at a known speed."""
        last = self.last_step
        return seconds_left(self.metrics.last, last) if last and self.state.startswith("training") else None

    @property
    def distance(self) -> str:
        """Name of the metric by which it is judged: the reverse KL or a FID; empty: there is none yet."""
        names = [name for name in metrics_of(self.evaluations.last) if name != PUBLISHED_FID]
        return next((name for kind in ("kl_", "fid_") for name in names if name.startswith(kind)), "")

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal as long as all that is shown of the run, and a report about it, would be."""
        return (self.path, tuple(self._seen.items()), tuple(self.grids), self.size, self.state)

    def look(self, locks: frozenset[int] | None, now: float) -> None:
        """Reads what changed.

        Args:
            locks: as ``locked_files`` gives them.
            now: seconds since 1970.
        """
        directory = self.directory
        if self._changed(directory.config):
            self.config = None
            with suppress(ConfigError):
                self.config = load_config(directory.config)
        if self._changed(directory.environment):
            self._here = self._trained_here()
        before = self.changed
        for path in (directory.metrics, directory.evaluations, directory.checkpoints):
            self._changed(path)
        if self.changed > before > 0:
            self._interval = max(self.changed - before, 0.9 * self._interval)
        for file, lines in self._files:
            while True:
                anew, records = file.read()
                if anew:
                    lines.clear()
                for record in records:
                    lines.add(record)
                if not (anew or records):
                    break
        # Within a moment of a change a file system may give the next one the same time.
        if self._changed(directory.samples) or now - self._seen.get(directory.samples, (0,))[-1] / 1e9 < 2:
            self._find_grids()
        self.state = self._state(locks, now)

    def _changed(self, path: Path) -> bool:
        """Whether a file or folder is another one than at the last look, and it is there."""
        try:
            status = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return False
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        before, self._seen[path] = self._seen.get(path), seen
        return seen != before

    def _trained_here(self) -> bool:
        """Whether rank 0 of the last session was on this machine, whose locks can be seen."""
        import socket

        sessions = read_environment(self.directory)
        processes = sessions[-1].get("processes") if sessions else None
        first = processes[0] if isinstance(processes, list) and processes else None
        return isinstance(first, dict) and first.get("host") == socket.gethostname()

    def _find_grids(self) -> None:
        grids = []
        for step, path in self.directory.sample_grids():
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    grids.append(Grid(step, f"{status.st_mtime_ns:x}-{status.st_size:x}"))
        if grids != self.grids:
            self.grids = grids
            if grids:
                with suppress(OSError):
                    self.size = struct.unpack(">II", self.read_sample(grids[-1].step)[16:24])

    def read_sample(self, step: int) -> bytes:
        """The PNG of a sample grid.

        Raises:
            OSError: there is none; it is no PNG; or it, or the folder it is in, is a link, which may lead anywhere.
        """
        if step not in {grid.step for grid in self.grids}:
            raise FileNotFoundError(step)
        path = self.directory.sample(step)
        real = path.resolve(strict=True)
        if real != self.path.resolve() / "samples" / path.name:
            raise PermissionError(f"{path}: is a link")
        # Looked at once more when it is open: something else may have taken its place meanwhile.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(real, flags), "rb") as file:
            content = _regular(file)
        if not content.startswith(_PNG):
            raise PermissionError(f"{path}: is no PNG")
        return content

    def _state(self, locks: frozenset[int] | None, now: float) -> str:
        last = self.last_step
        done = last is not None and self.step >= last
        if done and self.config is not None and self.config.evaluate_every:
            done = self.evaluations.last.get("step", -1) >= self.step
        quiet = now - self.changed
        is_sure = self._here and locks is not None
        held = locks is not None and self._lock_number() in locks
        if held or quiet < (_SURE_SECONDS if is_sure else max(_UNSURE_SECONDS, 5 * self._interval)):
            if done and not held:
                return "finished"
            return "training" if self.metrics.last else "starting"
        if done:
            return "finished"
        if not self.metrics.last and not self.grids:
            return "not begun"
        return "stopped" if is_sure else "stopped?"

    def _lock_number(self) -> int:
        try:
            return self.directory.lock.stat().st_ino
        except OSError:
            return -1


def _regular(file: BinaryIO) -> bytes:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SAMPLE_BYTES:
        raise PermissionError("is no regular file, or too large")
    return file.read()


class WatchedFolder:
    """The runs below a folder, at any depth, or the one that it is.

    Args:
        path: of the folder; it need not hold a run yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[Path, WatchedRun] = {}
        self.runs: list[WatchedRun] = []
        """In order of the name; the ``MOST_RUNS`` that changed last."""
        self.left_out = 0
        """How many more there are."""

    def look(self) -> None:
        """Finds the runs that are there now, and reads what changed in them."""
        try:
            paths = [path for path in find_runs(str(self.path)) if RunDirectory(path).is_ours()]
        except (ConfigError, ExternalError, OSError):  # there is none yet, or it is gone
            paths = []
        self._known = {path: self._known.get(path) or WatchedRun(path) for path in paths}
        locks, now = locked_files(), time.time()
        for run in self._known.values():
            run.look(locks, now)
        newest = sorted(self._known.values(), key=lambda run: -run.changed)[:MOST_RUNS]
        self.left_out = len(self._known) - len(newest)
        self.runs = sorted(newest, key=lambda run: run.path)


def numbers(value: Any) -> list[float]:
    """The numbers of a list, or a number as a list of one; NaN for all that is no number below 1e100."""
    return [
        float(each)
        if isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e100
        else math.nan
        for each in (value if isinstance(value, list) else [value])
    ]


def column(lines: Sequence[Mapping[str, Any]] | Lines, name: str, k: int = 0) -> list[tuple[int, float]]:
    """Step and value of a key, or of item k of a list, for the lines that have it as a finite number."""
    points = ((line["step"], numbers(line.get(name))[k : k + 1]) for line in lines)
    return [(step, value[0]) for step, value in points if value and not math.isnan(value[0])]
