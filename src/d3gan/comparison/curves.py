"""Curves of evaluations over iterations, images, seconds and operations; of one run, and over the seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from d3gan.comparison.flops import flops_an_image
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, mean_interval, ratio_interval


class Axis(NamedTuple):
    """What a curve is drawn over."""

    name: str
    """iteration, images, seconds or flops."""
    label: str
    short: str
    """Likewise, in one word."""


AXES = (
    Axis("iteration", "iterations", "iterations"),
    Axis("images", "real images seen", "images"),
    Axis("seconds", "seconds of training", "seconds"),
    Axis("flops", "floating-point operations", "FLOPs"),
)


class Curve(NamedTuple):
    """A run's figure over an axis."""

    steps: list[int]
    places: list[float]
    """Increasing."""
    values: list[float]


class Point(NamedTuple):
    """A figure at one step, over the seeds."""

    step: int
    place: float
    """Mean over the seeds."""
    value: Interval


def number(record: Mapping[str, Any], name: str) -> float | None:
    """A finite number in a record of a run's files, else None."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def place_of(run: Run, record: Mapping[str, Any], axis: Axis) -> float | None:
    """Where a line of a run's files lies on an axis."""
    if axis.name == "flops":
        images = number(record, "images_seen")
        return None if images is None else images * flops_an_image(run.config)
    return number(record, {"iteration": "step", "images": "images_seen", "seconds": "training_seconds"}[axis.name])


def curve_of(run: Run, figure: str, axis: Axis) -> Curve:
    """A run's curve of a figure in its evaluations; lines without it are left out."""
    steps: list[int] = []
    places: list[float] = []
    values: list[float] = []
    for record in run.evaluations:
        place, value = place_of(run, record, axis), number(record, figure)
        if place is not None and value is not None and (not places or place > places[-1]):
            steps.append(int(record["step"]))
            places.append(place)
            values.append(value)
    return Curve(steps, places, values)


def is_distance(figure: str) -> bool:
    """Whether a figure is a positive distance, which is averaged by its logarithm; else by itself."""
    return figure.startswith("fid_")


def over_seeds(figure: str, values: Sequence[float]) -> Interval:
    """The mean of a figure with its interval; geometric for distances that are above 0."""
    return ratio_interval(values) if is_distance(figure) and min(values) > 0 else mean_interval(values)


def band_of(runs: Iterable[Run], figure: str, axis: Axis) -> list[Point]:
    """A variant's curve with its interval, at the steps at which all runs that have the figure were evaluated."""
    curves = [curve for run in runs if (curve := curve_of(run, figure, axis)).steps]
    if not curves:
        return []
    shared = set.intersection(*(set(curve.steps) for curve in curves))
    points = []
    for step in sorted(shared):
        rows = [curve.steps.index(step) for curve in curves]
        place = math.fsum(curve.places[i] for curve, i in zip(curves, rows, strict=True)) / len(curves)
        values = [curve.values[i] for curve, i in zip(curves, rows, strict=True)]
        points.append(Point(step, place, over_seeds(figure, values)))
    return points
