"""Figures of the paired comparisons: ratios at equal cost, of the time to a given quality, and that time itself."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from d3gan.comparison.curves import AXES
from d3gan.comparison.formatting import digits
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.plot_axes import drawing, scale_x, style_of
from d3gan.comparison.results import Drawing
from d3gan.comparison.statistics import Interval
from d3gan.comparison.verdict import direction
from d3gan.evaluation.metric_names import shared_word
from d3gan.plotting import BLACK, BLUE, VERMILLION, plain_number

_ROW = 0.36  # inches of height per row of intervals
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)


def paired_drawings(paired: Sequence[PairedComparison]) -> Iterator[Drawing]:
    """Ratios with their intervals: of the distance (FID, reverse KL) at equal cost, and of the time to one."""
    equal, times, word = {}, {}, shared_word(each.metric for each in paired)
    slug = word.lower().replace(" ", "-")
    for each in paired:
        name = f"{each.variant} / {each.baseline}, {each.condition.slug}"
        for axis in AXES:
            if axis.name == "images":  # as many iterations are as many images
                continue
            if axis.name in each.equal:
                equal[f"{name}: {axis.short}"] = each.equal[axis.name].interval
            if each.targets and axis.name in each.targets[0].ratios:
                row = f"{name}, {shared_word([each.metric])} {digits(each.targets[0].value)}: {axis.short}"
                times[row] = each.targets[0].ratios[axis.name].interval
    if equal:
        yield drawing(
            "equal-cost-ratios",
            f"{word} at equal cost, variant over baseline",
            "Below 1 the variant is better. Geometric mean of the ratios seed by seed, with 95 % Student intervals.",
            (f"ratio of {word}", ""),
            functools.partial(_paint_ratios, equal),
            1.1 + _ROW * len(equal),
        )
    if times:
        yield drawing(
            f"time-to-{slug}-ratios",
            f"What it takes to reach the same {word}, variant over baseline",
            f"Below 1 the variant gets there sooner. The {word} is the best one that all runs of a pair reach; "
            "geometric mean of the ratios seed by seed, with 95 % Student intervals.",
            ("ratio", ""),
            functools.partial(_paint_ratios, times),
            1.1 + _ROW * len(times),
        )
    if timed := [each for each in paired if each.time_ratio]:
        yield drawing(
            f"time-to-{slug}",
            f"Seconds of training to the same {word}",
            f"Each pair's best {word} that all of its runs reach; geometric mean with 95 % Student interval.",
            ("seconds of training", ""),
            functools.partial(_paint_times, timed),
            1.1 + _ROW * 2 * len(timed),
        )


def _paint_ratios(rows: Mapping[str, Interval], axes: Axes) -> None:
    axes.axvline(1.0, color=BLACK, ls="--", lw=1.0)
    shades = {-1: BLUE, 0: BLACK, 1: VERMILLION}
    _draw_intervals(axes, list(rows), list(rows.values()), [shades[direction(value)] for value in rows.values()])
    axes.set_xscale("log")
    values = [1.0, *(value for each in rows.values() for value in each[:3] if value)]
    low, high = max(min(values), 0.01), min(max(values), 100.0)
    # Few enough ticks to be read, 1 among them.
    apart = math.log(high / low) / 6
    ticks: list[float] = []
    for tick in sorted(_TICKS, key=lambda tick: abs(math.log(tick))):
        if low / 1.1 <= tick <= high * 1.1 and all(abs(math.log(tick / other)) >= apart for other in ticks):
            ticks.append(tick)
    axes.set_xlim(low / 1.08, high * 1.08)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain_number)


def _paint_times(paired: Sequence[PairedComparison], axes: Axes) -> None:
    rows = [(each, name) for each in paired for name in (each.variant, each.baseline)]
    names = list(dict.fromkeys(name for _, name in rows))
    targets = [f"{shared_word([each.metric])} {digits(each.targets[0].value)}" for each, _ in rows]
    labels = [f"{name}, {each.condition.slug}, {to}" for (each, name), to in zip(rows, targets, strict=True)]
    values = [each.targets[0].reached["seconds"][name] for each, name in rows]
    _draw_intervals(axes, labels, values, [style_of(name, names)["color"] for _, name in rows])
    scale_x(axes)
    axes.set_xlim(0, 1.6 * max(value.mean for value in values))  # three seeds' intervals may be far wider


def _draw_intervals(axes: Axes, rows: Sequence[str], values: Sequence[Interval], colours: Sequence[str]) -> None:
    """Draws a mark with its interval for each row, the first one on top."""
    for i, (value, shade) in enumerate(zip(values, colours, strict=True)):
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [i, i], color=shade, lw=2.2, solid_capstyle="butt")
        axes.plot([value.mean], [i], "o", color=shade, label="_")
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
