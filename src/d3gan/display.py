"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Off a terminal a line at most this often, so that a log of a fast run stays readable.
SECONDS_BETWEEN_LINES = 5.0


class Display(Protocol):
    """Where a run reports to."""

    def say(self, text: str) -> None:
        """Shows a line for good."""

    def show(self, line: dict[str, Any]) -> None:
        """Shows a tick, as written to metrics.jsonl."""

    def advance(self, step: int) -> None:
        """Steps done so far."""


class Silent:
    """Shows nothing: for programs that call ``d3gan.train`` themselves."""

    def say(self, text: str) -> None:
        """Nothing."""

    def show(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""


class PlainLines:
    """Lines for a log file or a pipe."""

    def __init__(self, total_steps: int, say: Any = print):
        self._total_steps, self._say = total_steps, say
        self._last = -SECONDS_BETWEEN_LINES

    def say(self, text: str) -> None:
        """A line."""
        self._say(text, flush=True)

    def show(self, line: dict[str, Any]) -> None:
        """A line, unless the last one was a moment ago and the run goes on."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES or line["step"] == self._total_steps:
            self._last = now
            left = (self._total_steps - line["step"]) * line["images_seen"] / line["step"] / line["images_per_second"]
            self.say(f"step {line['step']}/{self._total_steps}  {summary(line)}  {duration(left)} left")

    def advance(self, step: int) -> None:
        """Nothing: ticks are enough."""


class Bar:
    """A live bar, with lasting lines above it."""

    def __init__(self, progress: Progress, total_steps: int, start: int):
        self._progress = progress
        self._task = progress.add_task("", total=total_steps, completed=start)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, line: dict[str, Any]) -> None:
        """The tick's figures beside the bar."""
        self._progress.update(self._task, description=summary(line))

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)


def summary(line: dict[str, Any]) -> str:
    """A tick in one line of text."""
    steps = max(sum(line["selected"]), 1)
    parts = [f"epoch {line['epoch']:.2f}", f"G {line['generator_error']:.3f}"]
    for k, (real, fake, times) in enumerate(
        zip(line["real_errors"], line["fake_errors"], line["selected"], strict=True)
    ):
        share = f" chosen {times / steps:.0%}" if len(line["selected"]) > 1 else ""
        parts.append(f"D{k} real {real:.3f} fake {fake:.3f}{share}")
    return "  ".join([*parts, f"{line['images_per_second']:,.0f} images/s"])


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def terminal_display(total_steps: int, start: int) -> Iterator[Display]:
    """The display that fits standard output: a bar on a terminal, lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        yield PlainLines(total_steps)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        yield Bar(progress, total_steps, start)


@contextmanager
def silent_display(_total_steps: int, _start: int) -> Iterator[Display]:
    """No display."""
    yield Silent()
