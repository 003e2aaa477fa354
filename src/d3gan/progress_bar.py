"""Progress of what takes more than a moment: bars on a terminal or in a notebook, a line now and then elsewhere."""

import importlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from d3gan.formatting import rough_duration

logger = logging.getLogger("d3gan")

# Elsewhere: when the first line comes, and how far apart the others are.
_FIRST_SECONDS = 2.0
_LINE_SECONDS = 10.0

_shown = False

_SECONDS_BETWEEN_DRAWINGS = 0.25


def show_progress_bars(shown: bool = True) -> bool:
    """Turns bars on or off in this process, where they are off at first; returns whether they were on before."""
    global _shown
    before, _shown = _shown, shown
    return before


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, by rich's own rule."""
    from rich.console import Console

    return bool(Console().is_jupyter)


class NotebookOutput:
    """A place below a notebook's cell where what rich draws is drawn anew, at most four times per second.

    Rich's own live display needs ipywidgets there, and leaves nothing in a notebook that is saved.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._last = -_SECONDS_BETWEEN_DRAWINGS

    def draw(self, renderable: Any, *, at_once: bool = True) -> None:
        """Draws it over what was drawn before; unless ``at_once``, only when the last drawing is old enough."""
        from rich.table import Table

        if not at_once and time.monotonic() - self._last < _SECONDS_BETWEEN_DRAWINGS:
            return
        self._last = time.monotonic()
        frame = Table.grid()
        frame.add_row(renderable)
        if self._handle is None:
            self._handle = importlib.import_module("IPython.display").display(frame, display_id=True)
        else:
            self._handle.update(frame)


@contextmanager
def progress_bar(description: str, total: int | None, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the block runs, if bars are on: on standard error if it is a terminal, or in a notebook.

    Elsewhere it logs a line now and then.

    Args:
        description: The text before the bar.
        total: The number of units, or None if unknown.
        unit: "bytes", or the name of another unit.

    Yields:
        A function to call with the number of units done since its last call.
    """
    if not _shown:
        yield lambda _done: None
        return
    is_notebook = in_notebook()
    if not is_notebook and not sys.stderr.isatty():
        yield _log_lines(description, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    if is_notebook:
        bars, output = Progress(*columns), NotebookOutput()
        task = bars.add_task(description, total=total)

        def advance(done: int) -> None:
            bars.advance(task, done)
            output.draw(bars, at_once=False)

        yield advance
        output.draw(bars)
        return
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=total)
        yield lambda done: bars.advance(task, done)


def _log_lines(description: str, total: int | None, unit: str) -> Callable[[int], None]:
    """Logs how much is done, and how long the rest takes."""
    count, start = 0, time.monotonic()
    due = start + _FIRST_SECONDS

    def advance(done: int) -> None:
        nonlocal count, due
        count += done
        now = time.monotonic()
        if now < due or count == 0 or count == total:
            return
        due = now + _LINE_SECONDS
        scale, name = (1e6, "MB") if unit == "bytes" else (1, unit)
        if total is None:
            logger.info(f"{description}: {count / scale:,.0f} {name}")
        else:
            left = rough_duration((now - start) * (total - count) / count)
            logger.info(f"{description}: {count / scale:,.0f} of {total / scale:,.0f} {name}, about {left} left")

    return advance
