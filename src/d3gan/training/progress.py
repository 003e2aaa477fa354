"""The progress of a run on the screen: a bar on a terminal or in a notebook, plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from d3gan.formatting import duration, rough_duration
from d3gan.output import MessageHandler, say
from d3gan.progress_bar import NotebookOutput, show_progress_bars
from d3gan.runs.progress import seconds_left

# Without a terminal, print a line at most this often, so that the log of a fast run stays readable.
SECONDS_BETWEEN_LINES = 5.0
# A run that is over sooner needs no estimate of its duration.
_SHORT_SECONDS = 60.0


class Display(Protocol):
    """Where a run's progress goes."""

    def show(self, line: dict[str, Any]) -> None:
        """Shows a line of metrics.jsonl."""

    def advance(self, step: int) -> None:
        """Shows how many steps are done."""

    def note(self, text: str) -> None:
        """Shows the result of an evaluation, or that one is running."""


class Silent:
    """Shows nothing."""

    def show(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class PlainLines:
    """Prints lines for a log file or a pipe. If the reader of a pipe has left, the run continues silently."""

    def __init__(self, total_steps: int):
        self._total_steps = total_steps
        self._last: float | None = None

    def show(self, line: dict[str, Any]) -> None:
        """Prints a line, unless the last one is recent and the run has not ended."""
        now = time.monotonic()
        if self._last is not None and now - self._last < SECONDS_BETWEEN_LINES and line["step"] < self._total_steps:
            return
        left = seconds_left(line, self._total_steps) or 0.0
        self.note(f"step {line['step']}/{self._total_steps}  {summary(line)}  {duration(left)} left")
        if self._last is None:
            say_estimate(left)
        self._last = now

    def advance(self, step: int) -> None:
        """Nothing: the lines of ``show`` are enough."""

    def note(self, text: str) -> None:
        """Prints the text."""
        say(text)


class Bar:
    """A live bar; below it the last line of metrics and the last evaluation.

    Args:
        draw: replaces what was drawn; from then on a terminal also shows by itself how the bar moves.
        progress: the bar.
        total_steps: its length.
        start: the steps done.
    """

    def __init__(self, draw: Callable[[RenderableType], None], progress: Progress, total_steps: int, start: int):
        self._draw, self._progress = draw, progress
        self._task = progress.add_task("", total=total_steps, completed=start)
        self._total_steps = total_steps
        self._metrics, self._note = "", ""

    def show(self, line: dict[str, Any]) -> None:
        """Shows the metrics, cut to the width of the terminal."""
        if not self._metrics:
            say_estimate(seconds_left(line, self._total_steps) or 0.0)
        self._metrics = summary(line)
        self.draw()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)

    def note(self, text: str) -> None:
        """Shows the text below the metrics, until the next one."""
        self._note = text
        self.draw()

    def draw(self) -> None:
        """Draws everything, now."""
        self._draw(self._renderable())

    def _renderable(self) -> RenderableType:
        lines = [Text(text, overflow="ellipsis", no_wrap=True) for text in (self._metrics, self._note) if text]
        return Group(self._progress, *lines)


class NotebookBar(Bar):
    """The same below a notebook's cell, where nothing but a call of ours moves the bar."""

    def __init__(self, progress: Progress, total_steps: int, start: int):
        self._output = NotebookOutput()
        super().__init__(self._output.draw, progress, total_steps, start)
        self.draw()

    def advance(self, step: int) -> None:
        """Moves the bar, and draws it if that is some time ago."""
        super().advance(step)
        self._output.draw(self._renderable(), at_once=False)


def say_estimate(seconds: float) -> None:
    """Says once how long a run takes, if that is long enough to matter."""
    if seconds >= _SHORT_SECONDS:
        say(f"about {rough_duration(seconds)} of training at this rate; Ctrl-C saves, the same command resumes")


def summary(line: dict[str, Any]) -> str:
    """A line of metrics.jsonl as one line of text."""
    parts = [
        f"epoch {line['epoch']:.2f}",
        f"{line['images_per_second']:,.0f} images/s",
        f"G {line['generator_loss']:.3f}",
    ]
    losses = zip(line["real_losses"], line["fake_losses"], line["weights"], strict=True)
    for k, (real, fake, weight) in enumerate(losses):
        share = f" weight {weight:.2f}" if len(line["weights"]) > 1 else ""
        parts.append(f"D{k} real {real:.3f} fake {fake:.3f}{share}")
    return "  ".join(parts)


@contextmanager
def terminal_display(total_steps: int, start: int) -> Iterator[Display]:
    """The display that fits where it is shown: a bar on a terminal or in a notebook, lines elsewhere."""
    console = Console()
    if not console.is_terminal and not console.is_jupyter:
        yield PlainLines(total_steps)
        return
    progress = Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    )
    if console.is_jupyter:
        yield NotebookBar(progress, total_steps, start)
        return
    with Live(progress, console=console, refresh_per_second=4) as live:
        yield Bar(partial(live.update, refresh=True), progress, total_steps, start)


@contextmanager
def silent_display(_total_steps: int, _start: int) -> Iterator[Display]:
    """No display."""
    yield Silent()


@contextmanager
def showing_messages() -> Iterator[None]:
    """Shows the bars, and prints what d3gan logs as its command does, unless the program has handlers for that."""
    logger = logging.getLogger("d3gan")
    handler, level = (None if logger.hasHandlers() else MessageHandler()), logger.level
    if handler is not None:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    bars_were_shown = show_progress_bars()
    try:
        yield
    finally:
        show_progress_bars(bars_were_shown)
        if handler is not None:
            logger.setLevel(level)
            logger.removeHandler(handler)
