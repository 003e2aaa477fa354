"""What the networks' errors say, and do not say: their correlation with the Fréchet distance, and the selection."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from d3gan.comparison.curves import AXES, Curve, curve_of, number
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, correlation_interval, mean_interval, rank_correlation

# What is followed through a run, a value a tick.
SERIES = ("generator_loss", "discriminator_loss", "gap", "images_per_second")


class Moment(NamedTuple):
    """A value at one step, over the seeds."""

    step: int
    value: Interval


def paired_losses(run: Run, record: Mapping[str, Any]) -> list[float]:
    """Each discriminator's real error plus its paired fake error; empty where they are missing."""
    found = []
    for name in ("real_losses", "fake_losses"):
        values = record.get(name)
        if not isinstance(values, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            return []
        found.append([float(v) for v in values])
    real, fake = found
    swapped = run.config.recipe.pairing == "swapped"
    return [a + b for a, b in zip(real, fake[1:] + fake[:1] if swapped else fake, strict=False)]


def value_of(run: Run, record: Mapping[str, Any], series: str) -> float | None:
    """A line of metrics.jsonl as one value of a series.

    Args:
        run: whose line it is.
        record: the line.
        series: one of ``SERIES``. discriminator_loss is the mean of the paired errors; gap the largest of them less
            the smallest, over their mean, which needs two discriminators.
    """
    if series in ("generator_loss", "images_per_second"):
        return number(record, series)
    errors = paired_losses(run, record)
    if not errors or (series == "gap" and len(errors) < 2):
        return None
    mean = math.fsum(errors) / len(errors)
    if series == "discriminator_loss":
        return mean
    return (max(errors) - min(errors)) / mean if mean > 0 else None


def series_of(run: Run, series: str) -> dict[int, float]:
    """Step -> value of a series."""
    found = ((int(record["step"]), value_of(run, record, series)) for record in run.metrics)
    return {step: value for step, value in found if value is not None}


def course_of(runs: Iterable[Run], series: str) -> list[Moment]:
    """A variant's series with its interval, at the steps that all runs which have it share."""
    found = [values for run in runs if (values := series_of(run, series))]
    if not found:
        return []
    shared = set.intersection(*(set(values) for values in found))
    return [Moment(step, mean_interval([values[step] for values in found])) for step in sorted(shared)]


def shares_of(runs: Iterable[Run]) -> list[tuple[int, list[Interval]]]:
    """Step -> each discriminator's share of the selections since the tick before, over the seeds."""
    found: list[dict[int, list[float]]] = []
    for run in runs:
        lines = [(int(r["step"]), r.get("selected")) for r in run.metrics]
        found.append({s: [n / sum(c) for n in c] for s, c in lines if isinstance(c, list) and len(c) > 1 and sum(c)})
    if not found or not all(found):
        return []
    shared = sorted(set.intersection(*(set(shares) for shares in found)))
    K = min(len(shares[step]) for shares in found for step in shared) if shared else 0
    return [(step, [mean_interval([shares[step][k] for shares in found]) for k in range(K)]) for step in shared]


def value_since(run: Run, series: str, curve: Curve) -> list[tuple[float, float]]:
    """For each point of a curve: the series' mean over the ticks since the one before, and the point's value."""
    values, found, before = series_of(run, series), [], 0
    for step, value in zip(curve.steps, curve.values, strict=True):
        since = [v for at, v in values.items() if before < at <= step]
        if since:
            found.append((math.fsum(since) / len(since), value))
        before = step
    return found


def correlation_with(runs: Iterable[Run], series: str, figure: str) -> Interval | None:
    """Spearman's correlation within a run between a series and a figure of the evaluations, over the seeds.

    None where no run has three evaluations.
    """
    found = []
    for run in runs:
        points = value_since(run, series, curve_of(run, figure, AXES[0]))
        correlation = rank_correlation([mean for mean, _ in points], [value for _, value in points])
        if correlation is not None:
            found.append(correlation)
    return correlation_interval(found) if found else None


def throughput_of(run: Run) -> float | None:
    """A run's images a second: the median over its ticks, without the first where there are more: it warms up."""
    values = list(series_of(run, "images_per_second").values())
    return statistics.median(values[1:] or values) if values else None
