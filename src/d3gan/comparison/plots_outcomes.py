"""Figures of the contests, of the networks' errors, of the selection, and of speed."""

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from d3gan.comparison.behaviour import Moment, course_of, shares_of, throughput_of, value_since
from d3gan.comparison.curves import AXES, curve_of
from d3gan.comparison.formatting import digits
from d3gan.comparison.grouping import Figures, Setting
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.plot_axes import axes_of, draw_band, draw_intervals, scale_of_places, style_of
from d3gan.comparison.results import Drawing
from d3gan.comparison.statistics import Interval, ratio_interval
from d3gan.comparison.verdict import direction
from d3gan.errors import ConfigError
from d3gan.evaluation.metric_names import metric_label
from d3gan.plotting import BLACK, BLUE, VERMILLION, figure_of, plain_number
from d3gan.scaling.plots import figures_of

_ROW = 0.36  # inches of height for each row of intervals
_SERIES = {
    "generator_loss": ("errors-generator", "Generator error", "generator error"),
    "discriminator_loss": ("errors-discriminators", "Discriminator error", "mean paired error"),
    "gap": (
        "gap-of-discriminators",
        "How unequal the discriminators are",
        "(largest - smallest) / mean paired error",
    ),
}


def contest_drawings(contests: Sequence[PairedComparison]) -> Iterator[Drawing]:
    """Ratios with their intervals: of the FID at equal cost, and of the time to a FID."""
    equal = {
        f"{_named(c)}: {axis.short}": c.equal[axis.name]
        for c in contests
        for axis in AXES
        if axis.name in c.equal and axis.name != "images"
    }
    if equal:
        yield Drawing(
            "equal-cost-ratios",
            "FID at equal cost, variant over counterpart",
            "Below 1 the variant is better. Geometric mean of the ratios seed by seed, with 95 % Student intervals.",
            functools.partial(_draw_ratios, {name: r.interval for name, r in equal.items()}, "ratio of FIDs"),
        )
    reached = {
        f"{_named(c)}, FID {digits(c.targets[0].value)}: {axis.short}": c.targets[0].ratios[axis.name].interval
        for c in contests
        for axis in AXES
        if c.targets and axis.name in c.targets[0].ratios and axis.name != "images"
    }
    if reached:
        yield Drawing(
            "time-to-fid-ratios",
            "What it takes to reach the same FID, variant over counterpart",
            "Below 1 the variant gets there sooner. The FID is the best one that all runs of a pair reach; geometric "
            "mean of the ratios seed by seed, with 95 % Student intervals.",
            functools.partial(_draw_ratios, reached, "ratio"),
        )
        yield Drawing(
            "time-to-fid",
            "Seconds of training to the same FID",
            "Each pair's best FID that all of its runs reach; geometric mean with 95 % Student interval.",
            functools.partial(_draw_times, [c for c in contests if c.targets and "seconds" in c.targets[0].ratios]),
        )


def _named(contest: PairedComparison) -> str:
    return f"{contest.variant} / {contest.counterpart}, {contest.setting.slug}"


def _draw_ratios(rows: Mapping[str, Interval], label: str) -> Figure:
    with axes_of(label, "", height=1.1 + _ROW * len(rows)) as axes:
        axes.axvline(1.0, color=BLACK, ls="--", lw=1.0)
        shades = {-1: BLUE, 0: BLACK, 1: VERMILLION}
        draw_intervals(axes, list(rows), list(rows.values()), [shades[direction(value)] for value in rows.values()])
        axes.set_xscale("log")
        _few_ticks(axes, [v for i in rows.values() for v in (i.low, i.mean, i.high) if v])
    return figure_of(axes)


def _few_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis of ratios: few enough to be read, 1 among them."""
    low, high = max(min([*values, 1.0]), 0.01), min(max([*values, 1.0]), 100.0)
    ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100]
    apart = math.log(high / low) / 6
    kept: list[float] = []
    for tick in sorted(ticks, key=lambda tick: abs(math.log(tick))):
        if low / 1.1 <= tick <= high * 1.1 and all(abs(math.log(tick / other)) >= apart for other in kept):
            kept.append(tick)
    axes.set_xlim(low / 1.08, high * 1.08)
    axes.xaxis.set_major_locator(FixedLocator(sorted(kept)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain_number)


def _draw_times(contests: Sequence[PairedComparison]) -> Figure:
    rows = [(c, name) for c in contests for name in (c.variant, c.counterpart)]
    names = list(dict.fromkeys(name for _, name in rows))
    with axes_of("seconds of training", "", height=1.1 + _ROW * len(rows)) as axes:
        labels = [f"{name}, {c.setting.slug}, FID {digits(c.targets[0].value)}" for c, name in rows]
        values = [c.targets[0].places["seconds"][name] for c, name in rows]
        draw_intervals(axes, labels, values, [style_of(name, names)["color"] for _, name in rows])
        scale_of_places(axes, large=False)
        axes.set_xlim(0, 1.6 * max(value.mean for value in values))  # three seeds' intervals may be far wider
    return figure_of(axes)


def behaviour_drawings(settings: Sequence[Setting], figures: Mapping[str, Figures]) -> Iterator[Drawing]:
    """Errors by iteration, their relation to the FID, the selection, and how unequal the discriminators are."""
    for setting in settings:
        for series, (slug, title, label) in _SERIES.items():
            courses = {
                n: course for n, runs in setting.variants.items() if (course := course_of(runs.values(), series))
            }
            if courses:
                caption = "Mean over the seeds of each tick, with 95 % Student intervals as bands."
                draw = functools.partial(_draw_courses, courses, label)
                yield Drawing(f"{slug}-{setting.slug}", f"{title} by iteration, {setting.name}", caption, draw)
        if fid := figures[setting.dataset].fid:
            yield Drawing(
                f"correlation-of-error-and-fid-{setting.slug}",
                f"Generator error and FID, {setting.name}",
                f"{metric_label(fid)} of each evaluation over the mean generator error since the one before, all "
                "seeds. An error that told how good images are would make a rising line.",
                functools.partial(_draw_correlation, setting, fid),
            )
        shares = {n: found for n, runs in setting.variants.items() if (found := shares_of(runs.values()))}
        if shares:
            yield Drawing(
                f"selected-{setting.slug}",
                f"Which discriminator was selected, {setting.name}",
                "Share of the steps of a tick in which a discriminator trained the generator, mean over the seeds.",
                functools.partial(_draw_shares, shares),
            )


def _draw_courses(courses: Mapping[str, list[Moment]], label: str) -> Figure:
    names = list(courses)
    with axes_of("iterations", label) as axes:
        for name, course in courses.items():
            draw_band(axes, name, names, [m.step for m in course], [m.value for m in course], marks=False)
        scale_of_places(axes, large=False)
        means = [m.value.mean for course in courses.values() for m in course]
        axes.set_ylim(0, 1.15 * max(means))
    return figure_of(axes)


def _draw_correlation(setting: Setting, fid: str) -> Figure:
    names = list(setting.variants)
    with axes_of("generator error", metric_label(fid)) as axes:
        for name, runs in setting.variants.items():
            curves = [(run, curve_of(run, fid, AXES[0])) for run in runs.values()]
            points = [point for run, curve in curves for point in value_since(run, "generator_loss", curve)]
            style = style_of(name, names) | {"ls": ""}
            axes.plot([p[0] for p in points], [p[1] for p in points], ms=4, alpha=0.7, label=name, **style)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain_number)
        axes.yaxis.set_minor_formatter(plain_number)
    return figure_of(axes)


def _draw_shares(shares: Mapping[str, list[tuple[int, list[Interval]]]]) -> Figure:
    names = list(shares)
    with axes_of("iterations", "share of the selections") as axes:
        for name, found in shares.items():
            K = len(found[0][1])
            for k in range(K - 1 if K == 2 else K):  # of two, the other's share is the rest
                style = style_of(name, names) | {"marker": "", "ls": ("-", "--", "-.", ":")[k % 4]}
                label = f"{name}, discriminator {k}"
                axes.plot([step for step, _ in found], [each[k].mean for _, each in found], label=label, **style)
            axes.axhline(1 / K, color=BLACK, ls=":", lw=1.0)
        axes.set_ylim(0, 1)
        scale_of_places(axes, large=False)
    return figure_of(axes)


def throughput_drawings(settings: Sequence[Setting]) -> Iterator[Drawing]:
    """Images a second by batch size, a figure for each data set."""
    for dataset in dict.fromkeys(setting.dataset for setting in settings):
        rows: dict[str, list[tuple[int, Interval]]] = {}
        own = [setting for setting in settings if setting.dataset == dataset]
        for setting in own:
            for name, runs in setting.variants.items():
                rates = [rate for run in runs.values() if (rate := throughput_of(run))]
                if rates:
                    rows.setdefault(name, []).append((setting.batch_size, ratio_interval(rates)))
        if rows:
            yield Drawing(
                f"throughput-by-batch-size-{own[0].slug.rpartition('-b')[0]}",
                f"Throughput by batch size, {dataset}",
                "Real images a second while training: median over a run's ticks, geometric mean over the seeds with "
                "95 % Student interval. Runs that shared the machine slowed each other down.",
                functools.partial(_draw_throughput, rows),
            )


def scaling_drawings(folder: str) -> list[Drawing]:
    """The figures that ``d3gan scale`` drew in a folder.

    Raises:
        ConfigError: the folder holds no scaling.json that can be read.
    """
    path = Path(folder) / "scaling.json"
    try:
        found = figures_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"--scaling {folder}: {path} is no document of `d3gan scale` ({error})") from error
    about = "As `d3gan scale` measured it."
    return [
        Drawing(f"scaling-{name}", f"Scaling: {name.replace('_', ' ')}", about, functools.partial(_as_is, figure))
        for name, figure in found.items()
    ]


def _as_is(figure: Figure) -> Figure:
    return figure


def _draw_throughput(rows: Mapping[str, list[tuple[int, Interval]]]) -> Figure:
    names, sizes = list(rows), sorted({size for found in rows.values() for size, _ in found})
    with axes_of("batch size", "images a second") as axes:
        for name, found in rows.items():
            at, values = [size for size, _ in found], [value for _, value in found]
            low = [v.mean - (v.mean if v.low is None else v.low) for v in values]
            high = [(v.mean if v.high is None else v.high) - v.mean for v in values]
            axes.errorbar(at, [v.mean for v in values], [low, high], label=name, **style_of(name, names))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(plain_number)
        axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
        axes.set_ylim(0, 1.2 * max(value.mean for found in rows.values() for _, value in found))
        axes.yaxis.set_major_formatter(plain_number)
    return figure_of(axes)
