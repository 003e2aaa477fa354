"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from d3gan.formatting import duration

# Off a terminal a line at most this often, so that a log of a fast run stays readable.
SECONDS_BETWEEN_LINES = 5.0


class Display(Protocol):
    """Where a run's progress goes."""

    def show(self, line: dict[str, Any]) -> None:
        """Shows a tick, as written to metrics.jsonl."""

    def advance(self, step: int) -> None:
        """Steps done so far."""

    def note(self, text: str) -> None:
        """Shows an evaluation, or that one is under way."""


class Silent:
    """Shows nothing: for programs that call ``d3gan.train`` themselves."""

    def show(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class PlainLines:
    """Lines for a log file or a pipe. Where nobody reads them any more, the run goes on in silence."""

    def __init__(self, total_steps: int):
        self._total_steps = total_steps
        self._last = -SECONDS_BETWEEN_LINES

    def show(self, line: dict[str, Any]) -> None:
        """A line, unless the last one was a moment ago and the run goes on."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and line["step"] < self._total_steps:
            return
        self._last = now
        left = (self._total_steps - line["step"]) * line["images_seen"] / line["step"] / line["images_per_second"]
        self.note(f"step {line['step']}/{self._total_steps}  {summary(line)}  {duration(left)} left")

    def advance(self, step: int) -> None:
        """Nothing: ticks are enough."""

    def note(self, text: str) -> None:
        """A line."""
        try:
            print(text, flush=True)
        except BrokenPipeError:
            silence_output()


class Bar:
    """A live bar, and below it the last tick's figures and the last evaluation's."""

    def __init__(self, live: Live, progress: Progress, total_steps: int, start: int):
        self._live, self._progress = live, progress
        self._task = progress.add_task("", total=total_steps, completed=start)
        self._tick, self._note = "", ""

    def show(self, line: dict[str, Any]) -> None:
        """The tick's figures, cut off where the terminal ends."""
        self._tick = summary(line)
        self._update()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)

    def note(self, text: str) -> None:
        """The text, below the tick's figures, until the next one."""
        self._note = text
        self._update()

    def _update(self) -> None:
        lines = [Text(text, overflow="ellipsis", no_wrap=True) for text in (self._tick, self._note) if text]
        self._live.update(Group(self._progress, *lines), refresh=True)


def silence_output() -> None:
    """Sends standard output nowhere from now on, so that Python does not complain of a closed pipe when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def summary(line: dict[str, Any]) -> str:
    """A tick in one line of text."""
    steps = max(sum(line["selected"]), 1)
    parts = [
        f"epoch {line['epoch']:.2f}",
        f"{line['images_per_second']:,.0f} images/s",
        f"G {line['generator_loss']:.3f}",
    ]
    for k, (real, fake, times) in enumerate(
        zip(line["real_losses"], line["fake_losses"], line["selected"], strict=True)
    ):
        share = f" chosen {times / steps:.0%}" if len(line["selected"]) > 1 else ""
        parts.append(f"D{k} real {real:.3f} fake {fake:.3f}{share}")
    return "  ".join(parts)


@contextmanager
def terminal_display(total_steps: int, start: int) -> Iterator[Display]:
    """The display that fits standard output: a bar on a terminal, lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        yield PlainLines(total_steps)
        return
    progress = Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    )
    with Live(progress, console=console, refresh_per_second=4) as live:
        yield Bar(live, progress, total_steps, start)


@contextmanager
def silent_display(_total_steps: int, _start: int) -> Iterator[Display]:
    """No display."""
    yield Silent()
