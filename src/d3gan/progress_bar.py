"""A bar of bytes or images on a terminal; nothing anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_shown = False


def show_progress_bars(shown: bool = True) -> None:
    """Has this process show bars from now on, or none: programs that call d3gan get none unless they ask."""
    global _shown
    _shown = shown


@contextmanager
def progress_bar(what: str, total: int | None, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows a bar on standard error while the block runs, after ``show_progress_bars`` and on a terminal.

    Args:
        what: The words before the bar.
        total: How much there is to do, or None where unknown.
        unit: "bytes", or what else is counted.

    Yields:
        A function to be called with how much has been done since it was last called.
    """
    if not (_shown and sys.stderr.isatty()):
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)
