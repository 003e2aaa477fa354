"""Two variants under one condition, compared seed by seed: at equal cost, and on the way to equal quality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from d3gan.comparison.curves import AXES, Curve, curve_of, is_distance
from d3gan.comparison.grouping import Condition
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, PairedRatio, paired_ratio, ratio_interval, reached_at, value_at

# Besides the best FID that every run reaches, easier ones: by these factors.
_EASIER = (1.0, 1.5, 2.5)


@dataclass(frozen=True)
class Target:
    """What it takes two variants to reach a value of the metric."""

    value: float
    reached: dict[str, dict[str, Interval]]
    """Axis -> variant -> where on the axis, over the seeds; geometric mean."""
    ratios: dict[str, PairedRatio]
    """Axis -> where the variant reaches it, over where its baseline does."""


@dataclass(frozen=True)
class PairedComparison:
    """A variant compared with its baseline, over the seeds that both have."""

    condition: Condition
    variant: str
    baseline: str
    metric: str
    """The Fréchet distance compared."""
    seeds: list[int]
    equal: dict[str, PairedRatio]
    """Axis -> the variant's metric over the baseline's, where the shorter of the two runs ends on that axis."""
    targets: list[Target]
    """The hardest one first; empty where all runs reach no value but those at which one starts."""

    @property
    def time_ratio(self) -> PairedRatio | None:
        """The ratio of the seconds to the hardest target."""
        return self.targets[0].ratios.get("seconds") if self.targets else None


def compare_pair(condition: Condition, variant: str, baseline: str, metric: str) -> PairedComparison | None:
    """Compares two variants; None where no seed of both has the metric."""
    ours, theirs = condition.variants[variant], condition.variants[baseline]
    shared = sorted(ours.keys() & theirs.keys())
    seeds = [seed for seed in shared if _has(ours[seed], metric) and _has(theirs[seed], metric)]
    if not seeds:
        return None
    curves = {
        axis.name: [[curve_of(runs[seed].evaluation, metric, axis.name) for seed in seeds] for runs in (ours, theirs)]
        for axis in AXES
    }
    equal = {axis: ratio for axis, sides in curves.items() if (ratio := _at_equal_cost(*sides)) is not None}
    # The best value that all curves reach, rounded up to two digits, and easier ones, below where any starts.
    by_step = [curve.values for side in curves["iteration"] for curve in side]
    hardest = _two_digits_up(max(map(min, by_step)))
    values = [_two_digits_up(factor * hardest) for factor in _EASIER]
    start = min(each[0] for each in by_step)
    targets = [_target((variant, baseline), curves, value) for value in values if value < start]
    return PairedComparison(condition, variant, baseline, metric, seeds, equal, targets)


def _has(run: Run, metric: str) -> bool:
    values = curve_of(run.evaluation, metric).values
    return bool(values) and (min(values) > 0 or not is_distance(metric))


def _at_equal_cost(ours: Sequence[Curve], theirs: Sequence[Curve]) -> PairedRatio | None:
    """The metrics' ratio where the shorter of each pair's runs ends; None where a pair's curves do not overlap."""
    sides: tuple[list[float], list[float]] = [], []
    for pair in zip(ours, theirs, strict=True):
        end = min(curve.x[-1] if curve.x else math.nan for curve in pair)
        for curve, values in zip(pair, sides, strict=True):
            value = value_at(curve.x, curve.values, end)
            if value is None:
                return None
            values.append(value)
    return paired_ratio(*sides)


def _two_digits_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / unit, 9)) * unit:.12g}")


def _target(names: tuple[str, str], curves: dict[str, list[list[Curve]]], value: float) -> Target:
    """Where all runs reach a value; axes that some of the runs lack are left out."""
    reached: dict[str, dict[str, Interval]] = {}
    ratios: dict[str, PairedRatio] = {}
    for axis, sides in curves.items():
        ours, theirs = ([x for c in side if (x := reached_at(c.x, c.values, value))] for side in sides)
        if len(ours) == len(theirs) == len(sides[0]):
            reached[axis] = {names[0]: ratio_interval(ours), names[1]: ratio_interval(theirs)}
            ratios[axis] = paired_ratio(ours, theirs)
    return Target(value, reached, ratios)
