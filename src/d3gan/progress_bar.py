"""Progress bars on a terminal; nothing is shown elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_shown = False


def show_progress_bars(shown: bool = True) -> None:
    """Turns bars on or off in this process. They are off by default, for programs that import d3gan."""
    global _shown
    _shown = shown


@contextmanager
def progress_bar(description: str, total: int | None, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows a bar on standard error while the block runs, if bars are on and it is a terminal.

    Args:
        description: The text before the bar.
        total: The number of units, or None if unknown.
        unit: "bytes", or the name of another unit.

    Yields:
        A function to call with the number of units done since its last call.
    """
    if not (_shown and sys.stderr.isatty()):
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=total)
        yield lambda done: bars.advance(task, done)
