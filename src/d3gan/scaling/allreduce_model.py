"""The cost of an all-reduce by message size and number of processes.

A message of n bytes among W processes, with a latency of alpha seconds per hop and a bandwidth of beta bytes per
second, takes

- ring: 2 (W - 1) alpha + 2 (W - 1) / W n / beta.
  Thakur, Rabenseifner, Gropp: Optimization of Collective Communication Operations in MPICH, Int. J. High Performance
  Computing Applications 19(1), 2005.
- tree: 2 ceil(log2 W) alpha + 2 n / beta, a bound for libraries that use pipelined double trees.
  Sanders, Speck, Träff: Two-tree algorithms for full bandwidth broadcast, reduction and scan, Parallel Computing
  35(12), 2009.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from d3gan.errors import ConfigError

Algorithm = Literal["ring", "tree"]
LEAST_SIZES = 4


class Point(NamedTuple):
    """One measured all-reduce: bytes of the message, number of processes, seconds."""

    bytes: int
    workers: int
    seconds: float


class RelativeError(NamedTuple):
    """|predicted - measured| / measured, over some points."""

    median: float
    largest: float


@dataclass(frozen=True)
class CostModel:
    """Predicts the seconds of an all-reduce."""

    alpha: float
    """Latency in seconds per hop, at least 0."""
    beta: float
    """Bandwidth in bytes per second, above 0; infinite where the measurements show no effect of the size."""

    def seconds(self, size: float, workers: int, algorithm: Algorithm = "ring") -> float:
        """Seconds of an all-reduce of ``size`` bytes; 0 for one process."""
        if workers < 2:
            return 0.0
        if algorithm == "tree":
            return 2 * math.ceil(math.log2(workers)) * self.alpha + 2 * size / self.beta
        return 2 * (workers - 1) * (self.alpha + size / (workers * self.beta))

    def message_seconds(self, size: float) -> float:
        """Seconds of a message of ``size`` bytes from one process to another."""
        return self.alpha + size / self.beta


@dataclass(frozen=True)
class Fit:
    """A cost model, with its errors on the points it was fitted to and on those held out of the fit."""

    model: CostModel
    error: RelativeError
    held_out_error: RelativeError
    points: tuple[Point, ...]
    """All points, fitted and held out."""


def measured_points(document: dict[str, Any]) -> list[Point]:
    """The all-reduces of a scaling document, the median of each; none where they were not measured."""
    sweeps = (document.get("all_reduce") or {}).get("sweeps", [])
    return [
        Point(point["bytes"], sweep["workers"], point["seconds"]["median"])
        for sweep in sweeps
        for point in sweep["points"]
    ]


def fit(points: Iterable[Point]) -> CostModel:
    """Fits the ring's latency and bandwidth by least squares of relative errors, neither below 0.

    Relative errors, because seconds span orders of magnitude: with absolute ones the largest messages alone would
    decide, and the latency would be noise.

    Args:
        points: those of one process are left out.

    Raises:
        ConfigError: no point of at least 2 processes, fewer than 4 message sizes, or seconds that are not above 0.
    """
    return _least_squares(_usable(points))


def _usable(points: Iterable[Point]) -> list[Point]:
    """The points of at least two processes.

    Raises:
        ConfigError: they are too few to fit.
    """
    usable = [point for point in points if point.workers > 1]
    if not usable:
        raise ConfigError("no all-reduce of 2 or more workers was measured: a projection needs --workers 1,2 or more")
    sizes = len({point.bytes for point in usable})
    if sizes < LEAST_SIZES:
        raise ConfigError(f"all-reduces of {sizes} message sizes: a cost model needs at least {LEAST_SIZES}")
    for point in usable:
        if not 0 < point.seconds < math.inf:
            raise ConfigError(f"an all-reduce of {point.bytes:,} bytes in {point.seconds} s: must be above 0")
    return usable


def _least_squares(points: Sequence[Point]) -> CostModel:
    """The alpha >= 0 and 1 / beta >= 0 with the least sum of squared relative errors."""
    sizes, workers, seconds = (np.array(column, np.float64) for column in zip(*points, strict=True))
    # Each row divided by its seconds: the columns predict 1, and a residual is a relative error.
    terms = np.stack([2 * (workers - 1) / seconds, 2 * (workers - 1) / workers * sizes / seconds], axis=1)
    scale = np.linalg.norm(terms, axis=0)  # hops and bytes differ by 1e9, which would cost digits
    terms /= scale
    solution = np.linalg.lstsq(terms, np.ones(len(points)), rcond=None)[0]
    if (solution < 0).any():
        # The columns are of unit length and not negative, so each one's own best coefficient is its sum, and is >= 0.
        # With two unknowns the constrained optimum lies where one of them is 0; the longer projection is the better.
        alone = terms.sum(axis=0)
        solution = np.where(np.arange(2) == alone.argmax(), alone, 0.0)
    alpha, inverse = solution / scale
    return CostModel(float(alpha), float(1 / inverse) if inverse > 0 else math.inf)


def held_out(points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
    """Divides points by message size: every third size, from the smallest up, is held out of the fit.

    Returns:
        The points to fit, and those held out.
    """
    points = list(points)
    sizes = set(sorted({point.bytes for point in points})[2::3])
    return [p for p in points if p.bytes not in sizes], [p for p in points if p.bytes in sizes]


def validate(model: CostModel, points: Iterable[Point]) -> RelativeError:
    """The model's relative error over at least one point."""
    errors = [abs(model.seconds(p.bytes, p.workers) - p.seconds) / p.seconds for p in points]
    return RelativeError(statistics.median(errors), max(errors))


def fit_held_out(points: Iterable[Point]) -> Fit:
    """Fits the model to two thirds of the message sizes, and validates it on the others.

    Raises:
        ConfigError: as ``fit``.
    """
    usable = _usable(points)
    fitted, others = held_out(usable)
    model = _least_squares(fitted)
    return Fit(model, validate(model, fitted), validate(model, others), tuple(usable))
