"""Curves of a metric over iterations, images, seconds and operations: of one run, and over the seeds."""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from d3gan.comparison.columns import Columns
from d3gan.comparison.statistics import Interval, mean_interval, ratio_interval


class Axis(NamedTuple):
    """What a curve is drawn over: its column, its label, and the label in one word."""

    name: str
    label: str
    short: str


AXES = (
    Axis("iteration", "iterations", "iterations"),
    Axis("images", "real images seen", "images"),
    Axis("seconds", "seconds of training", "seconds"),
    Axis("flops", "floating-point operations", "FLOPs"),
)


class Curve(NamedTuple):
    """A run's metric over an axis; ``x`` is strictly increasing."""

    steps: list[int]
    x: list[float]
    values: list[float]


class Band(NamedTuple):
    """A metric over an axis, averaged over the seeds, as ``x`` is."""

    steps: list[int]
    x: list[float]
    values: list[Interval]


def curve_of(columns: Columns, metric: str, axis: str = "iteration") -> Curve:
    """Selects a curve; leaves out lines without the metric, and those that do not advance on the axis."""
    x, values = columns[axis], columns.get(metric)
    if values is None:
        return Curve([], [], [])
    finite = np.isfinite(x) & np.isfinite(values)
    steps, x, values = columns["iteration"][finite], x[finite], values[finite]
    advances = np.diff(np.maximum.accumulate(x), prepend=-np.inf) > 0
    return Curve(steps[advances].astype(int).tolist(), x[advances].tolist(), values[advances].tolist())


def band_of(runs: Iterable[Columns], metric: str, axis: str = "iteration") -> Band:
    """Averages a metric over runs that differ in the seed, at the steps that all runs with the metric share."""
    curves = [curve for columns in runs if (curve := curve_of(columns, metric, axis)).steps]
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves))) if curves else []
    points = [dict(zip(c.steps, zip(c.x, c.values, strict=True), strict=True)) for c in curves]
    x = [math.fsum(each[step][0] for each in points) / len(points) for step in steps]
    return Band(steps, x, [over_seeds(metric, [each[step][1] for each in points]) for step in steps])


def bands_by_discriminator(runs: Sequence[Columns], name: str) -> list[Band]:
    """A column of each discriminator: ``weight``, ``separation`` or ``gradient_norm``; empty where there is none."""
    bands = [band_of(runs, each) for each in runs[0] if re.fullmatch(rf"{name}_\d+", each)]
    return [band for band in bands if band.steps]


def is_distance(metric: str) -> bool:
    """Whether a metric is a positive distance, which is averaged by its logarithm; others are averaged directly."""
    return metric.startswith(("fid_", "kl_"))


def over_seeds(metric: str, values: Sequence[float]) -> Interval:
    """The mean of a metric with its interval; geometric for distances that are above 0."""
    return ratio_interval(values) if is_distance(metric) and min(values) > 0 else mean_interval(values)


def losses_at_evaluations(
    training: Columns, evaluation: Columns, loss: str, metric: str
) -> tuple[list[float], list[float]]:
    """For each evaluation of a run the mean loss of all steps since the evaluation before, and the metric."""
    logged, evaluated = curve_of(training, loss), curve_of(evaluation, metric)
    # A line is a mean over the steps since the one before; the last one may have fewer.
    counts = np.diff(logged.steps, prepend=0).tolist()
    ends = np.searchsorted(logged.steps, [0, *evaluated.steps], side="right").tolist()
    means, values = [], []
    for (start, end), value in zip(itertools.pairwise(ends), evaluated.values, strict=True):
        if end > start:
            sums = (count * loss for count, loss in zip(counts[start:end], logged.values[start:end], strict=True))
            means.append(math.fsum(sums) / sum(counts[start:end]))
            values.append(value)
    return means, values
