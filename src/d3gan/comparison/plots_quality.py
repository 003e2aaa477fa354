"""Figures of quality: FID and Inception Score over iterations, images, seconds and operations."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from d3gan.comparison.curves import AXES, Axis, Point, band_of, is_distance
from d3gan.comparison.formatting import seeds_text
from d3gan.comparison.grouping import Figures, Setting
from d3gan.comparison.plot_axes import axes_of, draw_band, scale_of_places, scale_of_values
from d3gan.comparison.published_curves import _steps_an_epoch, published_runs
from d3gan.comparison.results import Drawing
from d3gan.comparison.runs import Run
from d3gan.evaluation.metric_names import METRIC_LABELS, PUBLISHED_FID, metric_label
from d3gan.plotting import GREY, figure_of

_MEANS = {True: "geometric mean", False: "mean"}


def quality_drawings(settings: Sequence[Setting], figures: Mapping[str, Figures]) -> Iterator[Drawing]:
    """A figure for each setting, metric and axis; and where there are several batch sizes, one of a variant's."""
    for setting in settings:
        for figure in filter(None, figures[setting.dataset]):
            for axis in AXES:
                groups = {name: [*runs.values()] for name, runs in setting.variants.items()}
                yield from _drawing(groups, figure, axis, setting.name, setting.slug)
        yield from _published(setting)
    for (dataset, slug, variant), groups in _by_batch_size(settings).items():
        fid = figures[dataset].fid
        if fid and len(groups) > 1:
            for axis in (AXES[0], AXES[2]):
                yield from _drawing(
                    groups, fid, axis, f"{variant}, {dataset}", f"{slug}-{variant.replace(':', '-')}-batch-sizes"
                )


def _drawing(groups: Mapping[str, list[Run]], figure: str, axis: Axis, where: str, slug: str) -> Iterator[Drawing]:
    bands = {name: band for name, runs in groups.items() if (band := band_of(runs, figure, axis))}
    if not bands:
        return
    metric = METRIC_LABELS[figure.partition("_")[0]]
    seeds = sorted({band[0].value.n for band in bands.values()})
    count = seeds_text(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    shown = "95 % Student intervals as bands" if seeds[-1] > 1 else "one seed has no interval"
    caption = f"{metric_label(figure)}: {_MEANS[is_distance(figure)]} of {count}, {shown}."
    if axis.name == "seconds":
        caption += " Seconds of training alone, without evaluations, as measured on the machine of the runs."
    yield Drawing(
        f"{metric.lower()}-by-{axis.name}-{slug}",
        f"{metric} by {axis.label}, {where}",
        caption,
        functools.partial(_draw, bands, figure, axis),
    )


def _draw(bands: Mapping[str, list[Point]], figure: str, axis: Axis) -> Figure:
    names = list(bands)
    with axes_of(axis.label, metric_label(figure)) as axes:
        for name, band in bands.items():
            draw_band(axes, name, names, [p.place for p in band], [p.value for p in band], marks=len(band) <= 25)
        scale_of_places(axes, large=axis.name in ("images", "flops"))
        scale_of_values(axes, [p.value for band in bands.values() for p in band], distance=is_distance(figure))
    return figure_of(axes)


def _by_batch_size(settings: Sequence[Setting]) -> dict[tuple[str, str, str], dict[str, list[Run]]]:
    """Data set, its name for files, variant -> batch size for people -> runs."""
    found: dict[tuple[str, str, str], dict[str, list[Run]]] = {}
    for setting in settings:
        for variant, runs in setting.variants.items():
            place = setting.dataset, setting.slug.rpartition("-b")[0], variant
            found.setdefault(place, {})[f"batch size {setting.batch_size}"] = [*runs.values()]
    return found


def _published(setting: Setting) -> Iterator[Drawing]:
    """The published programs' own FID of our runs, and in grey what they logged."""
    groups = {name: [*runs.values()] for name, runs in setting.variants.items()}
    bands = {name: band for name, runs in groups.items() if (band := band_of(runs, PUBLISHED_FID, AXES[0]))}
    if not bands:
        return
    any_run = next(iter(groups.values()))[0]
    theirs = [r for r in published_runs() if (r["dataset"], r["batch_size"]) == (setting.dataset, setting.batch_size)]
    about = f" In grey: {sum(len(r['curves']) for r in theirs)} runs that the published programs logged." * bool(
        theirs
    )
    yield Drawing(
        f"fid-as-published-by-iteration-{setting.slug}",
        f"FID as the published programs computed it, {setting.name}",
        f"{metric_label(PUBLISHED_FID)}: comparable with their logs alone.{about}",
        functools.partial(_draw_published, bands, theirs, _steps_an_epoch(any_run)),
    )


def _draw_published(bands: Mapping[str, list[Point]], theirs: Sequence[Mapping[str, Any]], epoch: float) -> Figure:
    names, last = list(bands), max(band[-1].place for band in bands.values())
    with axes_of(AXES[0].label, metric_label(PUBLISHED_FID)) as axes:
        for run in theirs:
            dashes = "-" if run["model"] == "d3gan" else ":"
            for i, values in enumerate(run["curves"]):
                places = [epoch * (n + 1) for n in range(len(values)) if epoch * (n + 1) <= max(last, 10 * epoch)]
                label = f"published {run['model']}" if i == 0 else "_"
                axes.plot(places, values[: len(places)], color=GREY, ls=dashes, lw=0.9, alpha=0.7, label=label)
        for name, band in bands.items():
            draw_band(axes, name, names, [p.place for p in band], [p.value for p in band], marks=len(band) <= 25)
        scale_of_places(axes, large=False)
        axes.set_yscale("log")
    return figure_of(axes)
