"""The progress of a run on the screen: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from d3gan.formatting import duration, rough_duration
from d3gan.output import say

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
    """Shows nothing: for programs that call ``d3gan.train`` themselves."""

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
        left = seconds_left(line, self._total_steps)
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
    """A live bar; below it the last line of metrics and the last evaluation."""

    def __init__(self, live: Live, progress: Progress, total_steps: int, start: int):
        self._live, self._progress = live, progress
        self._task = progress.add_task("", total=total_steps, completed=start)
        self._total_steps = total_steps
        self._metrics, self._note = "", ""

    def show(self, line: dict[str, Any]) -> None:
        """Shows the metrics, cut to the width of the terminal."""
        if not self._metrics:
            say_estimate(seconds_left(line, self._total_steps))
        self._metrics = summary(line)
        self._update()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)

    def note(self, text: str) -> None:
        """Shows the text below the metrics, until the next one."""
        self._note = text
        self._update()

    def _update(self) -> None:
        lines = [Text(text, overflow="ellipsis", no_wrap=True) for text in (self._metrics, self._note) if text]
        self._live.update(Group(self._progress, *lines), refresh=True)


def seconds_left(line: dict[str, Any], total_steps: int) -> float:
    """Seconds of training until the last step, at the rate of a line of metrics.jsonl; without evaluations."""
    images_per_step = float(line["images_seen"]) / int(line["step"])
    return (total_steps - int(line["step"])) * images_per_step / float(line["images_per_second"])


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
