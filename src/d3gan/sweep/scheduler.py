"""Trains the runs of a sweep: each a process of ``d3gan train``, several at a time; a failed run stops no other."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from d3gan.config.ini import config_text
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.metric_names import metric_label
from d3gan.files import disk_errors, write_text
from d3gan.formatting import duration
from d3gan.interrupt import PARENT, stop_signals
from d3gan.runs.directory import RunDirectory
from d3gan.runs.opening import is_taken
from d3gan.status.read import Status, read_status
from d3gan.status.text import news_text, progress_text
from d3gan.sweep.plan import is_finished

logger = logging.getLogger("d3gan")

_POLL_SECONDS = 0.2
_SHOW_SECONDS = 1.0  # on a terminal
_LINE_SECONDS = 30.0  # elsewhere
_END_SECONDS = 60  # that a run may take to save itself
_MOST_AT_ONCE = 8  # on CPUs; each run takes memory for its own networks and data


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    config: TrainConfig
    failure: str = ""
    """The last line that a failed run wrote; empty: the run is finished."""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return Path(self.config.out).name


@dataclass(frozen=True)
class Slot:
    """Where one of several runs at a time computes."""

    environment: dict[str, str]
    """What its process gets besides our own environment."""


@dataclass
class _Child:
    config: TrainConfig
    slot: Slot
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]
    log_start: int
    bar: TaskID
    started: float = field(default_factory=time.monotonic)


def slots_for(count: int, device: str, runs: int) -> list[Slot]:
    """The slots for runs that are trained at the same time.

    Args:
        count: how many at once; 0: one per GPU, or on CPUs one per core of up to 4 and one per two cores of more.
        device: as the config has it.
        runs: how many there are.
    """
    if gpus := _gpus(device):
        return [Slot(gpus[i % len(gpus)]) for i in range(min(count or len(gpus), runs))]
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    count = max(1, min(count or (cores if cores <= 4 else min(cores // 2, _MOST_AT_ONCE)), runs))
    if count == 1 or "OMP_NUM_THREADS" in os.environ:
        return [Slot({})] * count
    # Threads of several processes on one core would wait for each other at every layer.
    return [Slot({"OMP_NUM_THREADS": str(max(1, cores // count))})] * count


def _gpus(device: str) -> list[dict[str, str]]:
    """For each GPU that runs may use, the environment that shows it to a process; empty for CPUs."""
    if device == "cpu":
        return []
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        visible = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
        names = visible or [str(i) for i in range(torch.cuda.device_count())]
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names]
    one_for_all = device.startswith("cuda:") or torch.backends.mps.is_available()
    return [{}] if one_for_all else []


class Scheduler:
    """Trains the runs of a sweep, as many at the same time as there are slots.

    Args:
        configs: the runs; ``out`` is the folder of each.
        folder: of the sweep; receives logs and configs.
        slots: where runs compute.
    """

    def __init__(self, configs: Sequence[TrainConfig], folder: Path, slots: Sequence[Slot]):
        self._folder, self._free = folder, list(slots)
        self._waiting, self._total = list(configs), len(configs)
        self._running: list[_Child] = []
        self._results: list[RunResult] = []
        self._awaited: set[str] = set()
        # A table on a terminal, a row for each run; elsewhere a line for each from time to time.
        name = TextColumn("{task.description}", table_column=Column(no_wrap=True))
        news = TextColumn("{task.fields[news]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        columns = (name, BarColumn(8), MofNCompleteColumn(), news)
        self._bars = Progress(
            *columns, console=Console(), refresh_per_second=2, expand=True, disable=not sys.stdout.isatty()
        )
        self._all_runs = self._bars.add_task("runs", total=self._total, news="")
        self.stopped_by: signal.Signals | None = None
        """The signal that ended it early."""

    def run(self) -> list[RunResult]:
        """Trains what is not finished yet; returns how each run ended, except those that a signal stopped.

        Passes the first SIGINT, SIGTERM or SIGHUP on to every run, which saves itself and ends; a second one kills
        them. A run that another process trains at the moment is waited for.

        Raises:
            ExternalError: logs or configs cannot be written.
        """
        for kind in ("logs", "configs"):
            with disk_errors(self._folder / kind, "choose another folder with --out"):
                (self._folder / kind).mkdir(parents=True, exist_ok=True)
        last_shown = time.monotonic()
        with self._signals(), self._bars:
            try:
                while self._running or (self._waiting and not self.stopped_by):
                    for child in [child for child in self._running if child.process.poll() is not None]:
                        self._end(child)
                    while self._free and not self.stopped_by and (config := self._next()):
                        self._begin(config)
                    if time.monotonic() - last_shown >= (_LINE_SECONDS if self._bars.disable else _SHOW_SECONDS):
                        last_shown = time.monotonic()
                        for child in self._running:
                            self._show(child)
                    time.sleep(_POLL_SECONDS if self._running or self._waiting else 0)
            finally:  # an error, such as a full disk: the runs save themselves and end
                for child in self._running:
                    child.process.terminate()
                for child in self._running:
                    try:
                        child.process.wait(_END_SECONDS)
                    except subprocess.TimeoutExpired:
                        child.process.kill()
        return self._results

    def _show(self, child: _Child) -> None:
        """Shows how far a run is; before its first line of metrics, what its log says that it does."""
        status, terminal = _status(child.config), not self._bars.disable
        news = (
            news_text(status, short=terminal) or _last_log_line(Path(child.log.name), child.log_start) or "starting"
        )
        if terminal:
            self._bars.update(child.bar, completed=status.step, total=status.last_step, news=news or "starting")
            self._bars.update(self._all_runs, news=metric_label(status.metric))
        else:
            how_far = f"{progress_text(status)}, " if status.step else ""
            logger.info(f"{Path(child.config.out).name}: {how_far}{news or 'starting'}")

    def _next(self) -> TrainConfig | None:
        """Takes the first waiting run that no other process trains; of the others it is said once that they wait."""
        for number, config in enumerate(self._waiting):
            if not is_taken(RunDirectory(Path(config.out))):
                return self._waiting.pop(number)
            if config.out not in self._awaited:
                self._awaited.add(config.out)
                logger.info(f"{Path(config.out).name}: another process trains it; waiting until that ends")
        return None

    def _begin(self, config: TrainConfig) -> None:
        name = Path(config.out).name
        try:
            if is_finished(config):
                return self._add(RunResult(config), "already finished")
        except (ConfigError, ExternalError) as error:
            return self._add(RunResult(config, f"error: {error}"))
        path, log_path = self._folder / "configs" / f"{name}.ini", self._folder / "logs" / f"{name}.log"
        write_text(path, config_text(config))
        with disk_errors(log_path):
            log = log_path.open("ab")
        slot, command = self._free.pop(0), [sys.executable, "-m", "d3gan", "train", "--config", str(path)]
        command.append("--trust-features")  # that the comparison's own command line named
        # A slot shows a process only one GPU; a run that asks for one by its number must see them all.
        environment = {} if config.device.startswith("cuda:") else slot.environment
        # In a session of its own, so that a terminal's Ctrl-C reaches it only through us, and once.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | environment | {PARENT: str(os.getpid())},
        )  # fmt: skip
        bar = self._bars.add_task(name, total=None, news="")
        self._running.append(_Child(config, slot, process, log, log.tell(), bar))
        if self.stopped_by is not None:  # while it was started
            process.send_signal(self.stopped_by)
        step = _status(config).step
        logger.info(f"{name}: {f'resumed at step {step:,}' if step else 'started'}")
        return None

    def _end(self, child: _Child) -> None:
        self._running.remove(child)
        self._bars.remove_task(child.bar)
        self._free.append(child.slot)
        child.log.close()
        code = child.process.returncode
        if code == 0:
            self._add(RunResult(child.config), f"done in {duration(time.monotonic() - child.started)}")
        elif self.stopped_by is not None:
            logger.info(f"{Path(child.config.out).name}: stopped at step {_status(child.config).step:,}")
        else:
            self._add(RunResult(child.config, _failure(Path(child.log.name), child.log_start, code)))

    def _add(self, result: RunResult, how: str = "") -> None:
        self._results.append(result)
        self._bars.advance(self._all_runs)
        count = f"[{len(self._results)}/{self._total}]"
        logger.info(f"{count} {result.name}: {how or f'FAILED: {result.failure}'}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _frame: FrameType | None) -> None:
            again, self.stopped_by = self.stopped_by is not None, signal.Signals(number)
            for child in self._running:
                child.process.send_signal(signal.SIGKILL if again else number)

        before = {number: signal.signal(number, handle) for number in stop_signals()}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)


def _status(config: TrainConfig) -> Status:
    return read_status(Path(config.out))


def _failure(log: Path, start: int, code: int) -> str:
    """The last line that a failed run wrote, or how it ended where it wrote none."""
    last = _last_log_line(log, start)
    if code < 0:
        last = f"killed by {signal.Signals(-code).name}" + (f" after: {last}" if last else "")
    return f"{last.removeprefix('d3gan: ') or f'exit code {code}'} ({log})"


def _last_log_line(log: Path, start: int) -> str:
    """The last line of a log after a position; empty where there is none."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
