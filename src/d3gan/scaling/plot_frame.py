"""What all plots of scaling share: the frame with its title and footer, and the axes of worker counts and values."""

import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator

from d3gan.plotting import DOTS_PER_INCH, GREY, HEIGHT, log2_x_axis, log_y_axis, plain_number, styled_figure
from d3gan.scaling.published import PUBLISHED_NOTE

# Above this, a linear axis would draw the small numbers of workers on top of each other.
MOST_WORKERS_LINEAR = 16
# Above this ratio of the largest to the smallest value, a linear axis would draw the smallest on the axis itself.
LARGEST_RATIO_LINEAR = 30.0
_LINE = 0.155  # height of a line of the small text, in inches


@dataclass(frozen=True)
class Caption:
    """The texts around a plot."""

    title: str
    conditions: str
    """What was measured on what; printed below the title."""
    notes: Sequence[str] = ()
    """Printed below the axes, one paragraph each."""
    footer: Sequence[str] = ()


@contextmanager
def plot(caption: Caption, panels: int = 1) -> Iterator[list[Axes]]:
    """Axes side by side in a new figure (``figure_of``), to draw on; the legend is added when the block ends.

    Notes make the figure higher, so that the axes keep their size.
    """
    notes = [line for note in caption.notes for line in textwrap.wrap("• " + note, 118, subsequent_indent="   ")]
    above = _cut(caption.conditions, 104, 3)
    below = [line for text in caption.footer for line in _cut(text, 124, 2)]
    height = HEIGHT + _LINE * len(notes) + (0.08 if notes else 0)
    top = 0.42 + _LINE * len(above)
    bottom = 0.1 + _LINE * (len(notes) + len(below)) + (0.08 if notes else 0)
    frame = (0.01, bottom / height, 0.98, 1 - (top + bottom) / height)
    engine = ConstrainedLayoutEngine(rect=frame, wspace=0.05)
    with styled_figure(height, dpi=DOTS_PER_INCH, layout=engine) as figure:
        FigureCanvasAgg(figure)
        _write(figure, 0.3, [caption.title], 11, weight="bold")
        _write(figure, 0.3 + _LINE + 0.03, above, 8, color="#444444")
        _write(figure, height - 0.06 - _LINE * len(below) + 0.05, below, 6.5, color=GREY)
        _write(figure, height - bottom + 0.15, notes, 7.5, color="#222222")
        yield list(figure.subplots(1, panels, squeeze=False)[0])
        _legend(figure, engine, frame)


def _write(figure: Figure, inches: float, lines: Sequence[str], size: float, **style: Any) -> None:
    """Writes lines of text; the baseline of the first is so many inches below the figure's top."""
    for i, line in enumerate(lines):
        y = 1 - (inches + i * _LINE) / figure.get_figheight()
        # Names of devices and files may hold a $, which would start a formula.
        figure.text(0.02, y, line, fontsize=size, va="baseline", parse_math=False, **style)


def _legend(figure: Figure, engine: ConstrainedLayoutEngine, frame: tuple[float, float, float, float]) -> None:
    """Adds one legend at the bottom of the frame and moves the axes above it, so that it covers nothing."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: (label.startswith("published"), label == "ideal"))
    legend = figure.legend(
        [handles[label] for label in labels],
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


def _cut(text: str, width: int, lines: int) -> list[str]:
    """Wraps a text, without control characters and undecodable halves of characters, to at most so many lines."""
    decoded = text.encode("utf-8", "replace").decode()
    printable = re.sub(r"[\x00-\x1f\x7f]+", " ", decoded)
    return textwrap.wrap(printable, width, max_lines=lines, placeholder=" …", break_on_hyphens=False)


def mark_workers(axes: Axes, counts: Iterable[int], label: str = "workers (processes)") -> None:
    """Sets up the horizontal axis: a tick at each number of workers, from 0; powers of two where there are many."""
    ticks = sorted(set(counts))
    if ticks[-1] > MOST_WORKERS_LINEAR:
        log2_x_axis(axes, [count for count in ticks if count & (count - 1) == 0] or ticks)
        axes.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    else:
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(plain_number)
        axes.set_xlim(0, 2 * ticks[0] if len(ticks) == 1 else ticks[-1] + max(0.2, 0.06 * ticks[-1]))
    axes.set_xlabel(label)


def mark_values(axes: Axes, values: Iterable[float], label: str) -> None:
    """Sets up the vertical axis: from 0, or logarithmic where the smallest value would look like 0."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > LARGEST_RATIO_LINEAR * min(positive):
        log_y_axis(axes)
        label += " (log)"
    else:
        axes.set_ylim(0, 1.08 * max(positive, default=1.0))
        axes.yaxis.set_major_formatter(plain_number)
    axes.set_ylabel(label)


def caption(
    document: dict[str, Any], title: str, batch_size: int | None, *notes: str, published: bool = False
) -> Caption:
    """The texts of a plot of a scaling document.

    Args:
        document: as in scaling.json.
        title: of the plot.
        batch_size: that the plot shows; None: all of them.
        notes: printed below the axes.
        published: whether the plot shows the published measurements.
    """
    if not batch_size:
        batch = "several batch sizes"
    elif document["mode"] == "weak":
        batch = f"batch size {batch_size} per process"
    else:
        batch = f"global batch size {batch_size}"
    names, size = " and ".join(document["models"]), document["image_size"]
    where = f"{document['device_name']} ({document['device']}, {document['backend']})"
    hosts = f"{document['hosts']} hosts, " if document["hosts"] > 1 else ""
    threads = f"{document['threads']} thread{'s' * (document['threads'] != 1)} per process, "
    conditions = (
        f"{names} on {document['dataset']} {size}x{size}, {document['mode']} scaling, {batch}, "
        f"{document['precision']}; "
        f"{hosts}{threads if document['device'] == 'cpu' else ''}{where}"
    )
    rounds, started = document["rounds"], datetime.fromisoformat(document["started"]).date()
    footer = [
        f"Median of {rounds} round{'s' * (rounds != 1)} of {document['seconds']:g} s; bars: smallest to largest.  "
        f"torch {document['torch']}, {started}",
        shlex.join(document["command"]),
    ]
    return Caption(title, conditions, notes, [*footer, *([PUBLISHED_NOTE] if published else [])])
