"""What the networks' errors say, and do not say: their correlation with the Fréchet distance, and the selection."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from d3gan.comparison.curves import AXES, curve_of, number
from d3gan.comparison.records import Run
from d3gan.comparison.statistics import Interval, mean_interval, rank_correlation

# What is followed through a run, a value a tick.
SERIES = ("generator_error", "discriminator_error", "largest_share", "gap", "images_per_second")


class Moment(NamedTuple):
    """A value at one step, over the seeds."""

    step: int
    value: Interval


def paired_errors(run: Run, record: Mapping[str, Any]) -> list[float]:
    """Each discriminator's real error plus its paired fake error; empty where they are missing."""
    found = []
    for name in ("real_errors", "fake_errors"):
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
        series: one of ``SERIES``. discriminator_error is the mean of the paired errors; largest_share how often the
            discriminator that was selected most often was, 1/K to 1; gap the largest paired error less the smallest,
            over their mean. The last two need two discriminators.
    """
    if series in ("generator_error", "images_per_second"):
        return number(record, series)
    errors = paired_errors(run, record)
    if series == "discriminator_error":
        return math.fsum(errors) / len(errors) if errors else None
    if len(errors) < 2:
        return None
    if series == "gap":
        mean = math.fsum(errors) / len(errors)
        return (max(errors) - min(errors)) / mean if mean > 0 else None
    selected = record.get("selected")
    if not isinstance(selected, list) or not sum(selected):
        return None
    return float(max(selected) / sum(selected))


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


def correlation_with(runs: Iterable[Run], series: str, figure: str) -> Interval | None:
    """Spearman's correlation within a run between a series and a figure of the evaluations, over the seeds.

    An evaluation's value of the series is its mean over the ticks since the evaluation before. None where no run has
    three evaluations.
    """
    found = []
    for run in runs:
        curve, values = curve_of(run, figure, AXES[0]), series_of(run, series)
        means, kept, before = [], [], 0
        for step, value in zip(curve.steps, curve.values, strict=True):
            since = [v for at, v in values.items() if before < at <= step]
            if since:
                means.append(math.fsum(since) / len(since))
                kept.append(value)
            before = step
        correlation = rank_correlation(means, kept)
        if correlation is not None:
            found.append(correlation)
    return mean_interval(found) if found else None


def throughput_of(run: Run) -> float | None:
    """A run's images a second: the median over its ticks but the first, which holds the warm-up."""
    values = sorted(series_of(run, "images_per_second").values() if len(run.metrics) < 3 else _after_the_first(run))
    return values[len(values) // 2] if values else None


def _after_the_first(run: Run) -> list[float]:
    return list(series_of(run, "images_per_second").values())[1:]
