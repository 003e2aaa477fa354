"""How far the runs of a comparison are, on a terminal; elsewhere the lines that name each run are enough."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """A bar for all runs and one for each that is being trained.

    Args:
        total: runs.
    """

    def __init__(self, total: int):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns)
        self._live = Live(self._bars, console=Console(), refresh_per_second=2) if sys.stdout.isatty() else None
        self._all = self._bars.add_task("runs", total=total)
        self._tasks: dict[str, TaskID] = {}
        self._shown = 0.0

    def __enter__(self) -> Self:
        """Begins to show."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Leaves the last state on the screen."""
        if self._live:
            self._live.stop()

    def is_due(self) -> bool:
        """Whether there is a terminal, and the last state is a second old."""
        return self._live is not None and time.monotonic() - self._shown >= 1

    def show(self, ended: int, running: Mapping[str, tuple[int, int | None]]) -> None:
        """Shows the state.

        Args:
            ended: runs that are over.
            running: name -> steps done, and steps to do where they are known.
        """
        self._shown = time.monotonic()
        self._bars.update(self._all, completed=ended)
        for name in [name for name in self._tasks if name not in running]:
            self._bars.remove_task(self._tasks.pop(name))
        for name, (step, last) in running.items():
            task = self._tasks.get(name)
            if task is None:
                task = self._tasks[name] = self._bars.add_task(name, total=last)
            self._bars.update(task, completed=step, total=last)
