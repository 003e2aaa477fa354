"""What every plot of this package shares: size, colours, style, and how it becomes a file."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d3gan.files import replace_file

WIDTH, HEIGHT = 7.0, 4.5  # inches
DOTS_PER_INCH = 150
# Okabe and Ito: Color Universal Design, 2008: colour-blind readers distinguish them as well.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#767676"
_MODEL_COLOURS = {"d3gan": VERMILLION, "dcgan": BLUE, "d3gan-controlled": ORANGE, "dcgan-controlled": SKY}
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


def colour(model: str, models: Sequence[str]) -> str:
    """The model's colour, the same in every plot."""
    others = [name for name in models if name not in _MODEL_COLOURS]
    spare = (GREEN, PURPLE, YELLOW, GREY)
    return _MODEL_COLOURS.get(model) or spare[others.index(model) % len(spare)]


def figure_of(axes: Axes) -> Figure:
    """The figure that axes stand on."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def plain_number(value: float, _position: object = None) -> str:
    """A tick's label, without powers of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as its file's name ends, .png or .svg, whole or not at all.

    An SVG keeps its text as text, has no ground of its own, and is the same bytes each time.

    Raises:
        ExternalError: the disk is full, or the folder cannot be written.
    """
    svg = path.suffix == ".svg"
    style = {"svg.fonttype": "none", "svg.hashsalt": "d3gan"} if svg else {}
    options: dict[str, Any] = {"metadata": {"Date": None}, "transparent": True} if svg else {"dpi": DOTS_PER_INCH}
    with replace_file(path) as file, warnings.catch_warnings(), matplotlib.rc_context(style):  # type: ignore[arg-type]
        # A path in the footer may be in a script that the font lacks: boxes in its place are no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(file, format=path.suffix[1:], **options)
