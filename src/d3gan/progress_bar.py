"""Progress of what takes more than a moment: bars on a terminal, a line from time to time elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from d3gan.formatting import rough_duration

logger = logging.getLogger("d3gan")

# Elsewhere: when the first line comes, and how far apart the others are.
_FIRST_SECONDS = 2.0
_LINE_SECONDS = 10.0

_shown = False


def show_progress_bars(shown: bool = True) -> None:
    """Turns bars on or off in this process. They are off by default, for programs that import d3gan."""
    global _shown
    _shown = shown


@contextmanager
def progress_bar(description: str, total: int | None, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows a bar on standard error while the block runs; where that is no terminal, logs a line now and then.

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
    if not sys.stderr.isatty():
        yield _log_lines(description, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
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
