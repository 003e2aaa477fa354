"""What the figures of a comparison share: axes with a legend below, lines with bands, intervals side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from d3gan.comparison.curves import Band
from d3gan.comparison.statistics import Interval
from d3gan.plotting import HEIGHT, MARKERS, STYLE, WIDTH, colour, plain_number

DASHES = ("-", "--", "-.", ":")
# Beyond this ratio of the largest to the smallest value the vertical axis is logarithmic.
_LARGEST_RATIO_LINEAR = 8.0


@contextmanager
def axes_of(horizontal: str, vertical: str, height: float = HEIGHT) -> Iterator[Axes]:
    """Axes of a new figure, ``axes.figure``; the legend goes below them when the block ends."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.set_xlabel(horizontal, parse_math=False)
        axes.set_ylabel(vertical, parse_math=False)
        yield axes
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            legend = figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
            for text in legend.get_texts():
                text.set_parse_math(False)


def style_of(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour, marker and dashes of a variant, the same in every figure that shows the same variants."""
    i = list(names).index(name)
    return {"color": colour(name, names), "marker": MARKERS[i % len(MARKERS)], "ls": DASHES[i // 6 % len(DASHES)]}


def draw_bands(axes: Axes, bands: Mapping[str, Band], most_markers: int = 25) -> None:
    """Draws each variant's mean as a line, with its interval as a band where there is one.

    Args:
        axes: drawn on.
        bands: variant -> band.
        most_markers: lines of more points have no markers.
    """
    for name, band in bands.items():
        style = style_of(name, list(bands))
        line_style = style if len(band.x) <= most_markers else style | {"marker": ""}
        axes.plot(band.x, [value.mean for value in band.values], label=name, markevery=1, **line_style)
        points = [(x, v.low, v.high) for x, v in zip(band.x, band.values, strict=True) if v.low is not None]
        if points:
            x, low, high = zip(*points, strict=True)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.16, lw=0)


def draw_intervals(axes: Axes, rows: Sequence[str], values: Sequence[Interval], colours: Sequence[str]) -> None:
    """Draws a mark with its interval for each row, the first one on top.

    Args:
        axes: drawn on; its vertical axis is named after the rows.
        rows: names.
        values: as many.
        colours: as many.
    """
    for i, (value, shade) in enumerate(zip(values, colours, strict=True)):
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [i, i], color=shade, lw=2.2, solid_capstyle="butt")
        axes.plot([value.mean], [i], "o", color=shade, label="_")
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def scale_x(axes: Axes, *, large: bool = False) -> None:
    """Starts the horizontal axis at 0 and formats its numbers: with prefixes (k, M, T) where they are large."""
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if large else plain_number)
    axes.set_xlim(left=0)


def scale_y(axes: Axes, values: Sequence[Interval], *, distance: bool) -> None:
    """Scales the vertical axis to the means: logarithmic for distances that fall far.

    A band may leave the axes: with few seeds it is many times as wide as the curve is high.
    """
    means = [value.mean for value in values]
    smallest, largest = min(means), max(means)
    if distance and smallest > 0:
        axes.set_ylim(smallest / 1.6, largest * 1.25)
        if largest > _LARGEST_RATIO_LINEAR * smallest:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(0, largest * 1.1)
    else:
        room = 0.15 * (largest - smallest) or 0.1 * abs(largest) or 1.0
        axes.set_ylim(smallest - 2 * room, largest + room)
    axes.yaxis.set_major_formatter(plain_number)
