"""What a comparison consists of; plain values that plots, tables, the JSON document and the page share.

Imports neither torch nor matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from d3gan.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Run:
    """A run directory as read: nothing of it is checked beyond what is said here."""

    path: Path
    config: TrainConfig
    """As resolved; of a torn or foreign config the reader raises instead."""
    variant: str
    """What is compared: the model's name, with the keys in which the run differs from its recipe behind it."""
    dataset: str
    """The images' name, as environment.json has it: cifar10-jpeg-train, never a path."""
    sessions: Sequence[Mapping[str, Any]]
    """environment.json, a mapping a session."""
    metrics: Sequence[Mapping[str, Any]]
    """Whole lines of metrics.jsonl, in order of the step."""
    evaluations: Sequence[Mapping[str, Any]]
    """Whole lines of evaluations.jsonl, in order of the step."""
    grids: Sequence[tuple[int, Path]]
    """Step and file of the sample grids."""
    batch_size: int = 0
    """Real images a step without what its variant accumulates, of all processes; 0: as its metrics say."""

    @property
    def name(self) -> str:
        """What people call the run: its folder's name. May hold any character a file name may."""
        return self.path.resolve().name


class Drawing(NamedTuple):
    """A figure of the comparison, drawn when it is wanted."""

    name: str
    """Its file's name without ending: fid-by-iteration-mnist-b64."""
    title: str
    caption: str
    """What it shows, how many seeds, which interval, which extractor; one to three sentences."""
    draw: Callable[[], "Figure"]
    """Text and axes in pure black on a transparent ground, so that a page may recolour them for the dark."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    value: float | None = None
    """What to sort by; None sorts by the text, and last among numbers."""


class Table(NamedTuple):
    """A table of the comparison."""

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Comparison:
    """What is known of some runs together."""

    runs: Sequence[Run]
    verdict: str
    """One or two sentences: whether the second discriminator pays, with an interval; or what is missing to say."""
    drawings: Sequence[Drawing]
    tables: Sequence[Table]
    document: Mapping[str, Any]
    """comparison.json: all figures as numbers."""
    remarks: Sequence[str] = ()
    """What a reader must know: failed runs, unequal extractors, few seeds, runs of another length or device."""
