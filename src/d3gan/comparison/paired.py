"""Two variants of one setting against each other, seed by seed: at equal cost, and on the way to equal quality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from d3gan.comparison.curves import AXES, Axis, Curve, curve_of, is_distance
from d3gan.comparison.grouping import Setting
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, PairedRatio, paired_ratio, ratio_interval, reached_at, value_at

# Beside the best FID that every run reaches: easier ones, by these factors.
_EASIER = (1.0, 1.5, 2.5)


@dataclass(frozen=True)
class Target:
    """How two variants get to a figure."""

    value: float
    places: dict[str, dict[str, Interval]]
    """Axis -> variant -> where, over the seeds; geometric mean."""
    ratios: dict[str, PairedRatio]
    """Axis -> the variant's place over its counterpart's."""


@dataclass(frozen=True)
class PairedComparison:
    """A variant against its counterpart, over the seeds that both have."""

    setting: Setting
    variant: str
    counterpart: str
    figure: str
    """The Fréchet distance compared."""
    seeds: list[int]
    equal: dict[str, PairedRatio]
    """Axis -> the variant's figure over the counterpart's, where the shorter of the two runs ends on that axis."""
    targets: list[Target] = field(default_factory=list)
    """The hardest one first; none where there is no figure that all runs reach and none starts with."""


def contest_of(setting: Setting, variant: str, counterpart: str, figure: str) -> PairedComparison | None:
    """Compares two variants; None where no seed of both has the figure."""
    ours, theirs = setting.variants[variant], setting.variants[counterpart]
    shared = sorted(ours.keys() & theirs.keys())
    seeds = [seed for seed in shared if _has(ours[seed], figure) and _has(theirs[seed], figure)]
    if not seeds:
        return None
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    equal = {axis.name: found for axis in AXES if (found := _at_equal_cost(pairs, figure, axis)) is not None}
    values = _targets([curve_of(run, figure, AXES[0]) for pair in pairs for run in pair])
    targets = [_target((variant, counterpart), pairs, figure, value) for value in values]
    return PairedComparison(setting, variant, counterpart, figure, seeds, equal, targets)


def _has(run: Run, figure: str) -> bool:
    values = curve_of(run, figure, AXES[0]).values
    return bool(values) and (min(values) > 0 or not is_distance(figure))


def _at_equal_cost(pairs: Sequence[tuple[Run, Run]], figure: str, axis: Axis) -> PairedRatio | None:
    """The figures' ratio where the shorter of a pair's two runs ends; None where curves do not overlap."""
    found = []
    for pair in pairs:
        curves = [curve_of(run, figure, axis) for run in pair]
        if not all(curve.places for curve in curves):
            return None
        end = min(curve.places[-1] for curve in curves)
        values = [value_at(curve.places, curve.values, end) for curve in curves]
        found.append([value for value in values if value is not None])
    if any(len(values) < 2 for values in found):
        return None
    return paired_ratio([values[0] for values in found], [values[1] for values in found])


def _targets(curves: Sequence[Curve]) -> list[float]:
    """The best value that all curves reach, rounded up to two digits, and easier ones, below where any starts."""
    hardest = _two_digits_up(max(min(curve.values) for curve in curves))
    start = min(curve.values[0] for curve in curves)
    return [value for factor in _EASIER if (value := _two_digits_up(factor * hardest)) < start]


def _two_digits_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / unit, 9)) * unit:.12g}")


def _target(names: tuple[str, str], pairs: Sequence[tuple[Run, Run]], figure: str, value: float) -> Target:
    """Where all runs, each of which gets there, do so; axes on which a run has no places are left out."""
    places: dict[str, dict[str, Interval]] = {}
    ratios: dict[str, PairedRatio] = {}
    for axis in AXES:
        curves = [[curve_of(run, figure, axis) for run in side] for side in zip(*pairs, strict=True)]
        found = [[reached_at(c.places, c.values, value) for c in side] for side in curves]
        ours, theirs = ([place for place in side if place] for side in found)
        if len(ours) == len(theirs) == len(pairs):
            places[axis.name] = {names[0]: ratio_interval(ours), names[1]: ratio_interval(theirs)}
            ratios[axis.name] = paired_ratio(ours, theirs)
    return Target(value, places, ratios)
