"""Figures of quality: each metric over iterations, images, seconds and operations."""

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from matplotlib.axes import Axes

from d3gan.comparison.curves import AXES, Axis, Band, band_of, is_distance
from d3gan.comparison.formatting import with_prefix
from d3gan.comparison.grouping import Condition, MetricNames
from d3gan.comparison.plot_axes import draw_bands, drawing, scale_x, seeds_caption
from d3gan.comparison.results import Drawing
from d3gan.comparison.runs import Run
from d3gan.evaluation.metric_names import METRIC_LABELS, PUBLISHED_FID, metric_label
from d3gan.plotting import GREY, log_y_axis, plain_number

# Beyond this ratio of the largest to the smallest mean the vertical axis is logarithmic.
_LARGEST_RATIO_LINEAR = 8.0
# Published data sets of digits, which ImageNet has no classes for.
_DIGITS = frozenset({"mnist", "stacked-mnist", "svhn"})
Runs = Mapping[str, Sequence[Run]]
"""Line of a figure -> the runs that it averages."""


def quality_drawings(conditions: Sequence[Condition], metrics: Mapping[str, MetricNames]) -> Iterator[Drawing]:
    """Figures for each condition, metric and axis, and of all batch sizes for each variant with several."""
    by_batch_size: dict[tuple[str, str, str], dict[str, list[Run]]] = {}
    for condition in conditions:
        runs = {name: list(by_seed.values()) for name, by_seed in condition.variants.items()}
        for metric in metrics[condition.dataset].all:
            if _says_something(metric, condition.dataset):
                yield from _over_axes(runs, metric, AXES, condition.name, condition.slug)
        yield from _as_published(condition, runs)
        for variant, averaged in runs.items():
            sizes = by_batch_size.setdefault((condition.dataset, condition.dataset_slug, variant), {})
            sizes[f"batch size {condition.batch_size}"] = averaged
    for (dataset, slug, variant), sizes in by_batch_size.items():
        if (distance := metrics[dataset].distance) and len(sizes) > 1:
            file = f"{slug}-{variant.replace(':', '-')}-batch-sizes"
            yield from _over_axes(sizes, distance, (AXES[0], AXES[2]), f"{variant}, {dataset}", file)


def _says_something(metric: str, dataset: str) -> bool:
    """Whether a metric tells better images from worse: the Inception Score does of what ImageNet's classes are like.

    It does not of digits, nor with another network than Inception (docs/evaluation.md, "Typical values"); its values
    are in the tables.
    """
    return not metric.startswith("is_") or (metric == "is_inception" and dataset not in _DIGITS)


def _bands(runs: Runs, metric: str, axis: str) -> dict[str, Band]:
    bands = {name: band_of([run.evaluation for run in averaged], metric, axis) for name, averaged in runs.items()}
    return {name: band for name, band in bands.items() if band.steps}


def _over_axes(runs: Runs, metric: str, axes: Sequence[Axis], where: str, slug: str) -> Iterator[Drawing]:
    """A metric over each axis; axes that only stretch the first one have no figure, its label names them."""
    by_axis = {axis: _bands(runs, metric, axis.name) for axis in axes}
    by_axis = {axis: bands for axis, bands in by_axis.items() if any(len(band.x) > 1 for band in bands.values())}
    if not by_axis:
        return
    first, *others = by_axis
    stretched = {axis: times for axis in others if (times := _times(by_axis[first], by_axis[axis]))}
    each = [
        {"images": f"{n:g} real images", "seconds": f"{n:.2g} seconds", "flops": f"{with_prefix(n)}FLOP"}[axis.name]
        for axis, n in stretched.items()
    ]
    labels = {first: f"{first.label} of {' and '.join(each)}" if each else first.label}
    words = {first: ", ".join(axis.short for axis in (first, *stretched))}
    name = METRIC_LABELS[metric.partition("_")[0]]
    mean = "geometric mean" if is_distance(metric) else "mean"
    for axis in (first, *(axis for axis in others if axis not in stretched)):
        bands = by_axis[axis]
        caption = f"{metric_label(metric)}. {seeds_caption(bands.values(), mean)}"
        if axis.name == "seconds":
            caption += " Seconds of training alone, without evaluations, as measured on the machine of the runs."
        yield drawing(
            f"{name.lower().replace(' ', '-')}-by-{axis.name}-{slug}",
            f"{name} by {axis.label}, {where}",
            caption,
            (labels.get(axis, axis.label), metric_label(metric)),
            functools.partial(_paint, bands, list(runs), metric, axis),
            series=(f"{name} through training, {where}", words.get(axis, axis.short)),
        )


def _times(bands: Mapping[str, Band], others: Mapping[str, Band]) -> float | None:
    """By what all curves over one axis are stretched over another one; None where it is not the same for all."""
    if {name: band.steps for name, band in bands.items()} != {name: band.steps for name, band in others.items()}:
        return None
    pairs = [pair for name, band in bands.items() for pair in zip(band.x, others[name].x, strict=True)]
    ratios = [b / a for a, b in pairs if a > 0]
    return ratios[0] if ratios and all(math.isclose(ratio, ratios[0], rel_tol=1e-9) for ratio in ratios) else None


def _paint(bands: Mapping[str, Band], names: Sequence[str], metric: str, axis: Axis, axes: Axes) -> None:
    draw_bands(axes, bands, names)
    scale_x(axes, large=axis.name in ("images", "flops"))
    means = [value.mean for band in bands.values() for value in band.values]
    _scale_y(axes, min(means), max(means), distance=is_distance(metric))


def _scale_y(axes: Axes, smallest: float, largest: float, *, distance: bool) -> None:
    """Scales the vertical axis to the means: logarithmic for distances that fall far.

    A band may leave the axes: with few seeds it is many times as wide as the curve is high.
    """
    if not distance or smallest <= 0:
        room = 0.15 * (largest - smallest) or 0.1 * abs(largest) or 1.0
        lowest = smallest - 2 * room
        axes.set_ylim(max(0.0, lowest) if smallest >= 0 else lowest, largest + room)  # shares and counts end at 0
    elif largest > _LARGEST_RATIO_LINEAR * smallest:
        axes.set_ylim(smallest / 1.6, largest * 1.25)
        log_y_axis(axes)
    else:
        axes.set_ylim(0, largest * 1.1)
    axes.yaxis.set_major_formatter(plain_number)


def _as_published(condition: Condition, runs: Runs) -> Iterator[Drawing]:
    """Our runs by the FID of the published programs, and in grey what those logged on one GPU in 2023."""
    bands = _bands(runs, PUBLISHED_FID, "iteration")
    if not bands:
        return
    logs = json.loads((files("d3gan.comparison") / "published_curves.json").read_text(encoding="utf-8"))["runs"]
    same = [log for log in logs if (log["dataset"], log["batch_size"]) == (condition.dataset, condition.batch_size)]
    count = sum(len(log["curves"]) for log in same)
    in_grey = f" In grey: {count} runs that the published programs logged." if same else ""
    # The published curves have one value per epoch.
    last = next((run.metrics[-1] for run in condition.runs[:1] if run.metrics), {})
    steps_per_epoch = float(last.get("step", 0)) / float(last.get("epoch", 0) or 1)
    yield drawing(
        f"fid-as-published-by-iteration-{condition.slug}",
        f"FID as the published programs computed it, {condition.name}",
        f"{metric_label(PUBLISHED_FID)}: comparable with their logs alone.{in_grey}",
        (AXES[0].label, metric_label(PUBLISHED_FID)),
        functools.partial(_paint_published, bands, list(runs), same, steps_per_epoch),
    )


def _paint_published(
    bands: Mapping[str, Band],
    names: Sequence[str],
    logs: Sequence[Mapping[str, Any]],
    steps_per_epoch: float,
    axes: Axes,
) -> None:
    end = max(max(band.x[-1] for band in bands.values()), 10 * steps_per_epoch)
    for log in logs:
        dashes = "-" if log["model"] == "d3gan" else ":"
        for i, values in enumerate(log["curves"]):
            x = [each for n in range(len(values)) if (each := steps_per_epoch * (n + 1)) <= end]
            label = f"published {log['model']}" if i == 0 else "_"
            axes.plot(x, values[: len(x)], color=GREY, ls=dashes, lw=0.9, alpha=0.7, label=label)
    draw_bands(axes, bands, names)
    scale_x(axes)
    axes.set_yscale("log")
