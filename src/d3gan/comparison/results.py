"""What a comparison consists of: plain values that plots, tables, the JSON document and the page share.

Imports neither torch nor matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from d3gan.comparison.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """A figure of the comparison, drawn when it is needed."""

    name: str
    """Its file's name without ending: fid-by-iteration-mnist-b64."""
    title: str
    caption: str
    """What it shows, how many seeds, which interval, which extractor; one to three sentences."""
    draw: Callable[[], "Figure"]
    """Text and axes in pure black on a transparent ground, so that a page may recolour them for the dark."""
    series: str = ""
    """Title that figures share which show the same over different axes: a page shows one of them, with a switch."""
    axis: str = ""
    """Of a series, what distinguishes this figure, in a word or two: seconds."""


class VerdictLine(NamedTuple):
    """What a pair of variants shows, in one short line."""

    answer: str
    """Pays, Does not pay, Faster, Slower, Better, Worse, Mixed or Undecided."""
    sentence: str
    """The names of both, and the ratio with its interval that decides."""


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
    """What some runs show together."""

    runs: Sequence[Run]
    verdict: str
    """One or two sentences: whether the second discriminator pays, with an interval; or what is missing to say."""
    drawings: Sequence[Drawing]
    tables: Sequence[Table]
    document: Mapping[str, Any]
    """comparison.json: everything as numbers."""
    remarks: Sequence[str] = ()
    """What a reader must know: failed runs, unequal extractors, few seeds, runs of another length or device."""
    lines: Sequence[VerdictLine] = ()
    """The verdict in a line for each pair, the most important pair first; empty: there is no pair."""
    against: str = ""
    """The baseline that was asked for; empty: each variant has its own."""
