"""What every plot of scaling shares: the frame with its title and footer, the axes of worker counts, and the file."""

import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from d3gan.plotting import DOTS_PER_INCH, GREY, HEIGHT, STYLE, WIDTH, plain_number
from d3gan.scaling.published import PUBLISHED_NOTE

# Beyond this the small numbers of workers would lie on top of each other on a linear axis.
MOST_WORKERS_LINEAR = 16
# Beyond this ratio the small values would lie on the axis.
LARGEST_RATIO_LINEAR = 30.0
_LINE = 0.155  # inches a line of the small text takes


@dataclass(frozen=True)
class Caption:
    """The texts around a plot."""

    title: str
    conditions: str
    """What was measured on what; below the title."""
    notes: Sequence[str] = ()
    """Printed below the axes, one paragraph each."""
    footer: Sequence[str] = ()


@contextmanager
def plot(caption: Caption, panels: int = 1) -> Iterator[list[Axes]]:
    """Axes side by side in a new figure (``figure_of``), to draw on; the legend is added when the block ends.

    With notes the figure is as much higher as they need, and the axes keep their size.
    """
    notes = [line for note in caption.notes for line in textwrap.wrap("• " + note, 118, subsequent_indent="   ")]
    above = _cut(_printable(caption.conditions), 104, 3)
    below = [line for text in caption.footer for line in _cut(_printable(text), 124, 2)]
    height = HEIGHT + _LINE * len(notes) + (0.08 if notes else 0)
    top = 0.42 + _LINE * len(above)
    bottom = 0.1 + _LINE * (len(notes) + len(below)) + (0.08 if notes else 0)
    with matplotlib.rc_context(STYLE):
        frame = (0.01, bottom / height, 0.98, 1 - (top + bottom) / height)
        engine = ConstrainedLayoutEngine(rect=frame, wspace=0.05)
        figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout=engine)
        FigureCanvasAgg(figure)
        _write(figure, 0.3, [caption.title], 11, weight="bold")
        _write(figure, 0.3 + _LINE + 0.03, above, 8, color="#444444")
        _write(figure, height - 0.06 - _LINE * len(below) + 0.05, below, 6.5, color=GREY)
        _write(figure, height - bottom + 0.15, notes, 7.5, color="#222222")
        yield list(figure.subplots(1, panels, squeeze=False)[0])
        _legend(figure, engine, frame)


def _write(figure: Figure, inches: float, lines: Sequence[str], size: float, **style: Any) -> None:
    """Lines of text, the first one's foot so many inches below the figure's top."""
    height = figure.get_figheight()
    for i, line in enumerate(lines):
        place = 1 - (inches + i * _LINE) / height
        # Names of devices and files may hold a $, which would start a formula.
        figure.text(0.02, place, line, fontsize=size, va="baseline", parse_math=False, **style)


def _legend(figure: Figure, engine: ConstrainedLayoutEngine, frame: tuple[float, float, float, float]) -> None:
    """One legend at the foot of the frame, and the axes above it, so that it covers nothing."""
    found: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    labels = sorted(found, key=lambda label: (label.startswith("published"), label == "ideal"))
    legend = figure.legend(
        [found[label] for label in labels],
        labels,
        loc="lower center",
        bbox_to_anchor=frame,
        ncols=3 if len(labels) in (5, 6) else min(len(labels), 4),
        fontsize=8.5,
        handlelength=2.4,
    )
    # matplotlib makes room for a legend at the figure's edge alone, where our footer is.
    legend.set_in_layout(False)
    height = legend.get_window_extent().height / figure.bbox.height + 0.06 / figure.get_figheight()
    engine.set(rect=(frame[0], frame[1] + height, frame[2], frame[3] - height))


def _printable(text: str) -> str:
    """The text without line breaks, control characters and the half characters of undecodable file names."""
    decoded = text.encode("utf-8", "replace").decode()
    return re.sub(r"[\x00-\x1f\x7f]+", " ", decoded)


def _cut(text: str, width: int, lines: int) -> list[str]:
    return textwrap.wrap(text, width, max_lines=lines, placeholder=" …", break_on_hyphens=False)


def mark_workers(axes: Axes, counts: Iterable[int], label: str = "workers (processes)") -> None:
    """The horizontal axis: a tick at each number of workers, from 0; by powers of two where there are many."""
    ticks = sorted(set(counts))
    if ticks[-1] > MOST_WORKERS_LINEAR:
        powers_of_two(axes, [count for count in ticks if count & (count - 1) == 0] or ticks)
        axes.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    else:
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.set_xlim(0, 2 * ticks[0] if len(ticks) == 1 else ticks[-1] + max(0.2, 0.06 * ticks[-1]))
    axes.xaxis.set_major_formatter(plain_number)
    axes.set_xlabel(label)


def powers_of_two(axes: Axes, ticks: Sequence[int]) -> None:
    """A logarithmic horizontal axis with ticks at these numbers, and no others."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain_number)


def mark_values(axes: Axes, values: Iterable[float], label: str) -> None:
    """The vertical axis: from 0, or logarithmic where the smallest value would not be told from 0."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > LARGEST_RATIO_LINEAR * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        label += " (log)"
    else:
        axes.set_ylim(0, 1.08 * max(positive, default=1.0))
    axes.yaxis.set_major_formatter(plain_number)
    axes.set_ylabel(label)


def _footer(document: dict[str, Any]) -> list[str]:
    """How and when it was measured, and by which command."""
    rounds, seconds = document["rounds"], document["seconds"]
    started = datetime.fromisoformat(document["started"]).date()
    return [
        f"Median of {rounds} round{'s' * (rounds != 1)} of {seconds:g} s; bars: smallest to largest.  "
        f"torch {document['torch']}, {started}",
        shlex.join(document["command"]),
    ]


def caption(
    document: dict[str, Any], title: str, batch_size: int | None, *notes: str, published: bool = False
) -> Caption:
    """The texts of a plot; ``batch_size`` None: it shows them all; ``published``: it shows the published figures."""
    if not batch_size:
        batch = "several batch sizes"
    elif document["mode"] == "weak":
        batch = f"batch size {batch_size} per process"
    else:
        batch = f"global batch size {batch_size}"
    names, size = " and ".join(document["models"]), document["image_size"]
    where = f"{document['device_name']} ({document['device']}, {document['backend']})"
    hosts = f"{document['hosts']} hosts, " if document["hosts"] > 1 else ""
    threads = f"{document['threads']} thread{'s' * (document['threads'] != 1)} a process, "
    conditions = (
        f"{names} on {document['dataset']} {size}x{size}, {document['mode']} scaling, {batch}, "
        f"{document['precision']}; "
        f"{hosts}{threads if document['device'] == 'cpu' else ''}{where}"
    )
    return Caption(title, conditions, notes, [*_footer(document), *([PUBLISHED_NOTE] if published else [])])
