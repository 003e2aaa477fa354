"""Seconds of training, and of those the seconds spent on data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Counts seconds of training and, of those, seconds on data; ``paused`` blocks do not count.

    A GPU only queues work when it is called, so there data time is taken by events on the device, and training time
    between moments at which the device has been waited for anyway.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._since: float | None = None  # None: stopped
        self._data_seconds = 0.0
        self._seconds = 0.0

    def restart(self) -> None:
        """Starts counting, now."""
        self._since = time.perf_counter()

    @contextmanager
    def data(self) -> Iterator[None]:
        """Counts the block as data time."""
        if self._device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(torch.cuda.current_stream(self._device))
            yield
            end.record(torch.cuda.current_stream(self._device))
            self._events.append((start, end))
        else:
            start_seconds = time.perf_counter()
            yield
            self._data_seconds += time.perf_counter() - start_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Counts nothing during the block."""
        self._stop()
        yield
        self.restart()

    def _stop(self) -> None:
        if self._since is None:
            return
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        self._seconds += time.perf_counter() - self._since
        self._since = None

    def lap(self) -> tuple[float, float]:
        """Seconds of training and of data since the last lap, after the device has finished its work."""
        running = self._since is not None
        self._stop()
        seconds, data_seconds = self._seconds, self._data_seconds
        data_seconds += sum(start.elapsed_time(end) for start, end in self._events) / 1000
        self._events, self._seconds, self._data_seconds = [], 0.0, 0.0
        if running:
            self.restart()
        return seconds, data_seconds
