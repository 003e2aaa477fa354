"""What the figures of a comparison share: axes with a legend below, the variants' styles, lines with bands."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from d3gan.comparison.curves import Band
from d3gan.comparison.formatting import seeds_text, wrapped
from d3gan.comparison.results import Drawing
from d3gan.plotting import MARKERS, model_color, plain_number, styled_figure

WIDTH, HEIGHT = 5.0, 3.4  # inches: on a phone of 400 pixels the text of 9 points has 10 of them
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (8, 2)), (0, (1, 4)), (0, (6, 2, 1, 2, 1, 2)), (0, (3, 6)))


def drawing(
    name: str,
    title: str,
    caption: str,
    labels: tuple[str, str],
    paint: Callable[[Axes], None],
    height: float = HEIGHT,
    series: tuple[str, str] = ("", ""),
) -> Drawing:
    """A figure of one plot: ``paint`` fills the axes with these labels, and the legend goes below them."""

    def draw() -> Figure:
        with styled_figure(height, WIDTH, layout="constrained") as figure:
            axes = figure.subplots()
            axes.set_xlabel(labels[0], parse_math=False)
            axes.set_ylabel(labels[1], parse_math=False)
            paint(axes)
            handles, names = axes.get_legend_handles_labels()
            names = [wrapped(name, 44) for name in names]
            if len(names) > 1:
                legend = figure.legend(
                    handles, names, loc="outside lower center", ncols=min(_columns(names), len(names))
                )
                for text in legend.get_texts():
                    text.set_parse_math(False)
        return figure

    return Drawing(name, title, caption, draw, *series)


def _columns(names: Sequence[str]) -> int:
    """Columns of a legend that fit below the axes: about 60 letters, 8 of them for each line's sample and gaps."""
    return max(1, min(3, 60 // (max(len(line) for name in names for line in name.split("\n")) + 8)))


def style_of(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Color, marker and dashes of a variant, the same in every figure that shows the same variants."""
    i = list(names).index(name)
    color, dashes = model_color(name, names), DASHES[i // 6 % len(DASHES)]
    return {"color": color, "marker": MARKERS[i % len(MARKERS)], "ls": dashes}


def seeds_caption(bands: Iterable[Band], mean: str = "mean") -> str:
    """How many seeds are behind the lines of a figure, and whether they have intervals: the end of its caption."""
    counts = sorted({value.n for band in bands for value in band.values})
    if counts[-1] == 1:
        return "One seed, which has no interval."
    seeds = f"{counts[0]} to {seeds_text(counts[-1])}" if len(counts) > 1 else seeds_text(counts[0])
    return f"{mean.capitalize()} of {seeds}, 95 % Student intervals as bands."


def draw_bands(axes: Axes, bands: Mapping[str, Band], names: Sequence[str], most_markers: int = 25) -> None:
    """Draws each variant's mean as a line, with its interval as a band where there is one.

    Args:
        axes: drawn on.
        bands: variant -> band.
        names: all variants that are compared, also those without a band, so that each keeps its style.
        most_markers: lines of more points have no markers.
    """
    for name, band in bands.items():
        style = style_of(name, names)
        line_style = style if len(band.x) <= most_markers else style | {"marker": ""}
        axes.plot(band.x, [value.mean for value in band.values], label=name, markevery=1, **line_style)
        points = [(x, v.low, v.high) for x, v in zip(band.x, band.values, strict=True) if v.low is not None]
        if points:
            x, low, high = zip(*points, strict=True)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.16, lw=0)


def scale_x(axes: Axes, *, large: bool = False) -> None:
    """Starts the horizontal axis at 0 and formats its numbers: with prefixes (k, M, T) where they are large."""
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if large else plain_number)
    axes.set_xlim(left=0)
