"""Trains the runs of a comparison: each a process of ``d3gan train``, several at a time, going on after failures."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from d3gan.config.ini import config_text
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.files import disk_errors, write_text
from d3gan.formatting import duration
from d3gan.sweep.grid import is_finished, steps_of
from d3gan.sweep.progress import Progress

logger = logging.getLogger("d3gan")

_POLL_SECONDS = 0.2
_END_SECONDS = 60  # that a run may take to save itself
_MOST_AT_ONCE = 8  # on CPUs; each takes memory for its own networks and data


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    config: TrainConfig
    failure: str = ""
    """What it said last, where it failed; empty: it is whole."""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return Path(self.config.out).name


@dataclass(frozen=True)
class Place:
    """Where one of several runs at a time computes: what its process finds in the environment."""

    environment: dict[str, str]


@dataclass
class _Child:
    config: TrainConfig
    place: Place
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]
    log_start: int
    began: float


def places_for(count: int, device: str, runs: int) -> list[Place]:
    """Where runs are trained at the same time.

    Args:
        count: how many at once; 0: one for each GPU, or on CPUs one for each core up to 4 and for each two beyond.
        device: as the config has it.
        runs: how many there are.
    """
    gpus = _gpus(device)
    if gpus:
        return [Place(gpus[i % len(gpus)]) for i in range(min(count or len(gpus), runs))]
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    count = max(1, min(count or (cores if cores <= 4 else min(cores // 2, _MOST_AT_ONCE)), runs))
    # Threads of several processes on one core would wait for each other at every layer.
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))} if count > 1 else {}
    return [Place(threads if "OMP_NUM_THREADS" not in os.environ else {}) for _ in range(count)]


def _gpus(device: str) -> list[dict[str, str]]:
    """The GPUs that runs on a device may use, each as what a process finds in its environment; none: CPUs."""
    if device == "cpu":
        return []
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        visible = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
        names = visible or [str(i) for i in range(torch.cuda.device_count())]
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names]
    one_for_all = device.startswith("cuda:") or torch.backends.mps.is_available()
    return [{}] if one_for_all else []


class Grid:
    """The runs of a comparison on their way.

    Args:
        configs: the runs; ``out`` says where each is kept.
        folder: of the comparison; logs and configs are written there.
        places: as many runs are trained at the same time.
    """

    def __init__(self, configs: Sequence[TrainConfig], folder: Path, places: Sequence[Place]):
        self._folder, self._free = folder, list(places)
        self._waiting, self._total = list(configs), len(configs)
        self._running: list[_Child] = []
        self._ended: list[Ended] = []
        self.stopped_by: signal.Signals | None = None
        """The signal that ended it early."""

    def run(self) -> list[Ended]:
        """Trains what is not finished yet; returns how each run ended, those that a signal stopped left out.

        The first SIGINT or SIGTERM goes on to every run, which saves itself and ends; a second one kills them.

        Raises:
            ExternalError: logs or configs cannot be written.
        """
        for kind in ("logs", "configs"):
            with disk_errors(self._folder / kind, "choose another folder with --out"):
                (self._folder / kind).mkdir(parents=True, exist_ok=True)
        with self._signals(), Progress(self._total) as progress:
            try:
                while self._running or (self._waiting and not self.stopped_by):
                    self._turn()
                    if progress.is_due():
                        running = {Path(child.config.out).name: steps_of(child.config) for child in self._running}
                        progress.show(len(self._ended), running)
                    time.sleep(_POLL_SECONDS if self._running else 0)
            finally:
                self._end_all()
        return self._ended

    def _end_all(self) -> None:
        """Has what still runs save and end: an error, such as a full disk, ended the grid."""
        for child in self._running:
            child.process.terminate()
        for child in self._running:
            try:
                child.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                child.process.kill()

    def _turn(self) -> None:
        """Takes what has ended off its place, and puts what waits on it."""
        for child in [child for child in self._running if child.process.poll() is not None]:
            self._end(child)
        while self._free and self._waiting and not self.stopped_by:
            self._begin(self._waiting.pop(0))

    def _begin(self, config: TrainConfig) -> None:
        name = Path(config.out).name
        try:
            finished = is_finished(config)
        except (ConfigError, ExternalError) as error:
            self._finish(Ended(config, f"error: {error}"))
            return
        if finished:
            self._finish(Ended(config), "found, finished before")
            return
        path, log_path = self._folder / "configs" / f"{name}.ini", self._folder / "logs" / f"{name}.log"
        write_text(path, config_text(config))
        with disk_errors(log_path):
            log = log_path.open("ab")
        place, command = self._free.pop(0), [sys.executable, "-m", "d3gan", "train", "--config", str(path)]
        # A place shows a process one GPU alone; a run that asks for one by its number must see them all.
        environment = {} if config.device.startswith("cuda:") else place.environment
        # In a group of its own, so that a terminal's Ctrl-C reaches it through us alone, and once.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | environment,
        )  # fmt: skip
        self._running.append(_Child(config, place, process, log, log.tell(), time.monotonic()))
        if self.stopped_by is not None:  # while it was started
            process.send_signal(self.stopped_by)
        step, _ = steps_of(config)
        logger.info(f"{name}: {f'goes on from step {step:,}' if step else 'started'}")

    def _end(self, child: _Child) -> None:
        self._running.remove(child)
        self._free.append(child.place)
        child.log.close()
        code, taken = child.process.returncode, duration(time.monotonic() - child.began)
        if code == 0:
            self._finish(Ended(child.config), f"done in {taken}")
        elif self.stopped_by is not None:
            logger.info(f"{Path(child.config.out).name}: stopped at step {steps_of(child.config)[0]:,}")
        else:
            self._finish(Ended(child.config, _last_words(Path(child.log.name), child.log_start, code)))

    def _finish(self, ended: Ended, how: str = "") -> None:
        self._ended.append(ended)
        logger.info(f"[{len(self._ended)}/{self._total}] {ended.name}: {how or f'FAILED: {ended.failure}'}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _frame: FrameType | None) -> None:
            again, self.stopped_by = self.stopped_by is not None, signal.Signals(number)
            for child in self._running:
                child.process.send_signal(signal.SIGKILL if again else number)

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)


def _last_words(log: Path, start: int, code: int) -> str:
    """The last line that a failed run wrote, or how it ended where it wrote none."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if code < 0:
        words = f"killed by {signal.Signals(-code).name}" + (f" after: {words}" if words else "")
    return f"{words.removeprefix('d3gan: ') or f'exit code {code}'} ({log})"
