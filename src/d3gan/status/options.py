"""Flags of ``d3gan info`` and ``d3gan runs``. Imports no torch, so that both answer at once."""

from dataclasses import dataclass
from typing import Literal

from d3gan.config.shared_flags import Debug
from d3gan.config.validation import check_values

SortKey = Literal["run", "model", "data", "steps", "state", "last", "best", "speed", "changed"]


@dataclass(frozen=True)
class Info:
    """Tell what a run is, how far it is, its best figure, and the command that continues it."""

    run: str
    """Run directory."""
    json: bool = False
    """Print one JSON object instead of text."""
    debug: Debug = False


@dataclass(frozen=True)
class Runs:
    """List all runs below a folder: how far they are, their figures, their speed."""

    folder: str
    """Folder to search, such as runs or what `d3gan compare` wrote."""
    sort: SortKey = "run"
    """Column to sort by: last and best with the best first, steps, speed and changed with the largest first."""
    json: bool = False
    """Print a JSON list instead of a table."""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types."""
        check_values(self)
