"""Figures of the paired comparisons: ratios at equal cost, of the time to a given quality, and that time itself."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from d3gan.comparison.curves import AXES
from d3gan.comparison.formatting import digits, short_names, wrapped
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.plot_axes import drawing, scale_x, style_of
from d3gan.comparison.results import Drawing
from d3gan.comparison.statistics import Interval, PairedRatio
from d3gan.comparison.verdict import direction
from d3gan.evaluation.metric_names import shared_word
from d3gan.plotting import BLACK, BLUE, VERMILLION, plain_number

_ROW = 0.26  # inches of height per row of intervals, and per heading
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)
_LETTERS = 56  # of a heading, beside the narrowest labels
Rows = Mapping[str, Mapping[str, Interval]]
"""Heading -> label of a row below it -> interval."""


def paired_drawings(paired: Sequence[PairedComparison]) -> Iterator[Drawing]:
    """Ratios with their intervals: of the distance (FID, reverse KL) at equal cost, and of the time to one."""
    word = shared_word(each.metric for each in paired)
    slug = word.lower().replace(" ", "-")
    several = len({each.condition.name for each in paired}) > 1
    equal: dict[str, dict[str, Interval]] = {}
    times: dict[str, dict[str, Interval]] = {}
    reached: dict[str, dict[str, Interval]] = {}
    for each in paired:
        short = short_names([each.variant, each.baseline])
        heading = f"{short[each.variant]} / {short[each.baseline]}{f', {each.condition.slug}' * several}"
        if ratios := _by_axis(each.equal):
            equal[heading] = ratios
        if each.targets and (ratios := _by_axis(each.targets[0].ratios)):
            times[heading] = ratios
        if each.time_ratio:
            target = f"{shared_word([each.metric])} {digits(each.targets[0].value)}"
            reached[f"{heading}: {target}"] = each.targets[0].reached["seconds"]
    seeds = max((len(each.seeds) for each in paired), default=1)
    mean = "One seed, which has no interval."
    if seeds > 1:
        mean = "Geometric mean of the ratios seed by seed, with 95 % Student intervals."
    if equal:
        yield drawing(
            "equal-cost-ratios",
            f"{word} at equal cost, variant over baseline",
            f"Below 1, to the left, the variant is better. {mean}",
            (f"ratio of {word}", ""),
            functools.partial(_paint_ratios, equal, "better"),
            _height(equal),
        )
    if times:
        yield drawing(
            f"time-to-{slug}-ratios",
            f"What it takes to reach the same {word}, variant over baseline",
            f"Below 1, to the left, the variant gets there sooner. The {word} is the best one that all runs of a "
            f"pair reach. {mean}",
            ("ratio", ""),
            functools.partial(_paint_ratios, times, "sooner"),
            _height(times),
        )
    if reached:
        names = list(dict.fromkeys(name for rows in reached.values() for name in rows))
        yield drawing(
            f"time-to-{slug}",
            f"Seconds of training to the same {word}",
            f"Fewer, to the left, is better. The {word} is the best one that all runs of a pair reach; "
            f"{'geometric mean with 95 % Student interval' if seeds > 1 else 'one seed, which has no interval'}.",
            ("seconds of training", ""),
            functools.partial(_paint_times, reached, names),
            _height(reached),
        )


def _by_axis(ratios: Mapping[str, PairedRatio]) -> dict[str, Interval]:
    """The ratios by the short name of their axis, without images: as many iterations are as many of them."""
    return {axis.short: ratios[axis.name].interval for axis in AXES if axis.name in ratios and axis.name != "images"}


def _height(rows: Rows) -> float:
    return 0.85 + _ROW * sum(len(_heading_lines(heading)) + len(each) for heading, each in rows.items())


def _heading_lines(heading: str) -> list[str]:
    return wrapped(heading, _LETTERS).split("\n")


def _paint_ratios(rows: Rows, word: str, axes: Axes) -> None:
    axes.axvline(1.0, color=BLACK, ls="--", lw=1.0)
    shades = {-1: BLUE, 0: BLACK, 1: VERMILLION}
    _draw_intervals(axes, rows, lambda _, value: shades[direction(value)])
    axes.set_title(f"← variant {word}", loc="left")
    axes.set_title(f"baseline {word} →", loc="right")
    axes.set_xscale("log")
    values = [
        1.0,
        *(value for each in rows.values() for interval in each.values() for value in interval[:3] if value),
    ]
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


def _paint_times(rows: Rows, names: Sequence[str], axes: Axes) -> None:
    _draw_intervals(axes, rows, lambda name, _: style_of(name, names)["color"])
    scale_x(axes)
    # Three seeds' intervals may be far wider.
    axes.set_xlim(0, 1.6 * max(value.mean for each in rows.values() for value in each.values()))


def _draw_intervals(axes: Axes, rows: Rows, shade: Callable[[str, Interval], str]) -> None:
    """Draws headings from the top down, and below each a mark with its interval for each of its rows."""
    labels = []  # y and label of each row
    y = 0
    for heading, intervals in rows.items():
        for i, line in enumerate(_heading_lines(heading)):
            y += i > 0
            axes.text(0.01, y, line, transform=axes.get_yaxis_transform(), va="center", parse_math=False)
        for label, value in intervals.items():
            y += 1
            color = shade(label, value)
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [y, y], color=color, lw=2.2, solid_capstyle="butt")
            axes.plot([value.mean], [y], "o", color=color, label="_")
            labels.append((y, label))
        y += 1
    short = short_names(list(dict.fromkeys(label for _, label in labels)))
    axes.set_yticks([y for y, _ in labels], [wrapped(short[label], 24) for _, label in labels], parse_math=False)
    axes.set_ylim(y - 0.5, -0.6)
    axes.grid(visible=False, axis="y")
