"""What all plots of this package share: size, colors, style, logarithmic axes, and how a figure becomes a file."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from d3gan.files import replace_file

WIDTH, HEIGHT = 7.0, 4.5  # inches
DOTS_PER_INCH = 150
# Okabe and Ito: Color Universal Design, 2008: color-blind readers can distinguish them too.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#767676"
_MODEL_COLORS = {"d3gan": VERMILLION, "dcgan": BLUE, "d3gan-controlled": ORANGE, "dcgan-controlled": SKY}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Any: matplotlib's types list the keys of its newest version alone.
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so a plot looks the same everywhere
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.5,
    "errorbar.capsize": 3.0,
    "legend.frameon": False,
    "text.usetex": False,
}


def model_color(model: str, models: Sequence[str]) -> str:
    """The model's color, the same in every plot that shows the same ``models``."""
    if model in _MODEL_COLORS:
        return _MODEL_COLORS[model]
    others = [name for name in models if name not in _MODEL_COLORS]
    spare = (GREEN, PURPLE, YELLOW, GREY)
    return spare[others.index(model) % len(spare)]


@contextmanager
def styled_figure(height: float = HEIGHT, width: float = WIDTH, **options: Any) -> Iterator[Figure]:
    """A new figure in this package's style, which ends with the block.

    Args:
        height: inches.
        width: inches.
        options: passed to ``Figure``, such as ``layout``.
    """
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), **options)


def figure_of(axes: Axes) -> Figure:
    """The figure that holds these axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def log_y_axis(axes: Axes) -> None:
    """Makes the vertical axis logarithmic, with ticks at 1, 2 and 5 times powers of ten, as plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(plain_number)


def log2_x_axis(axes: Axes, ticks: Sequence[int]) -> None:
    """Makes the horizontal axis logarithmic, with ticks at these numbers and no others."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain_number)


def plain_number(value: float, _position: object = None) -> str:
    """A tick's label, without powers of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def save(figure: Figure, path: Path) -> None:
    """Writes a figure whole or not at all, in the format that the file's suffix names: .png or .svg.

    An SVG keeps its text as text, has a transparent background, and has the same bytes each time.

    Raises:
        ExternalError: the disk is full, or the folder cannot be written.
    """
    svg = path.suffix == ".svg"
    style = {"svg.fonttype": "none", "svg.hashsalt": "d3gan"} if svg else {}
    options: dict[str, Any] = {"metadata": {"Date": None}, "transparent": True} if svg else {"dpi": DOTS_PER_INCH}
    with replace_file(path) as file, warnings.catch_warnings(), matplotlib.rc_context(style):  # type: ignore[arg-type]
        # A path in the footer may be in a script that the font lacks; it is then drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(file, format=path.suffix[1:], **options)
