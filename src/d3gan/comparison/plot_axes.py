"""How every figure of a comparison is drawn: axes with a legend below, lines with bands, intervals side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from d3gan.comparison.statistics import Interval
from d3gan.plotting import HEIGHT, MARKERS, STYLE, WIDTH, model_color, plain_number

_DASHES = ("-", "--", "-.", ":")
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


def draw_band(
    axes: Axes, name: str, names: Sequence[str], places: Sequence[float], values: Sequence[Interval], *, marks: bool
) -> None:
    """A variant's mean as a line, with its interval as a band where there is one.

    Args:
        axes: drawn on.
        name: of the variant; its colour and mark follow from it and ``names``.
        names: all variants of the figure.
        places: horizontal.
        values: as many.
        marks: whether each point gets a mark.
    """
    style = style_of(name, names)
    axes.plot(
        places, [v.mean for v in values], label=name, markevery=1, **(style if marks else {**style, "marker": ""})
    )
    bands = [
        (x, v.low, v.high) for x, v in zip(places, values, strict=True) if v.low is not None and v.high is not None
    ]
    if bands:
        at, low, high = zip(*bands, strict=True)
        axes.fill_between(at, low, high, color=style["color"], alpha=0.16, lw=0)


def style_of(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour, mark and dashes of a variant, the same in every figure that shows the same variants."""
    i = list(names).index(name)
    return {
        "color": model_color(name, names),
        "marker": MARKERS[i % len(MARKERS)],
        "ls": _DASHES[i // 6 % len(_DASHES)],
    }


def draw_intervals(
    axes: Axes, rows: Sequence[str], values: Sequence[Interval], colours: Sequence[str], label: str = ""
) -> None:
    """A mark with its interval for each row, the first one on top.

    Args:
        axes: drawn on; its vertical axis is named after the rows.
        rows: names.
        values: as many.
        colours: as many.
        label: in the legend.
    """
    for i, (value, shade) in enumerate(zip(values, colours, strict=True)):
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [i, i], color=shade, lw=2.2, solid_capstyle="butt")
        axes.plot([value.mean], [i], "o", color=shade, label=label if i == 0 else "_")
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def scale_of_places(axes: Axes, *, large: bool) -> None:
    """Numbers of the horizontal axis: with prefixes (k, M, T) where they are large."""
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if large else plain_number)
    axes.set_xlim(left=0)


def scale_of_values(axes: Axes, values: Sequence[Interval], *, distance: bool) -> None:
    """The vertical axis of a figure: logarithmic for distances that fall far, as the means make it.

    A band may reach to where nothing is drawn any more: with few seeds it is many times as wide as the curve is high.
    """
    means = [value.mean for value in values]
    if not means:
        return
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
