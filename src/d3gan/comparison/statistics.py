"""Intervals over seeds, paired tests, and when a curve reaches a value.

Distances and times are compared by ratios, so their logarithms are averaged: the mean is the geometric one, and no
interval reaches below 0. Student's t gives all intervals: with three seeds they are wide, as they have to be.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.95
# Beyond so many pairs the signs of the exact test are no longer tried out one by one.
_MOST_PAIRS = 16
_LARGEST = 0.99  # Fisher's z of 1 is infinite; of ten ranks the largest correlation below 1 is 0.988


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float | None
    """None: one value alone says nothing of how much it varies."""
    high: float | None
    n: int
    """Number of values behind it."""


class PairedRatio(NamedTuple):
    """How one variant relates to another, pair by pair."""

    interval: Interval
    """Of the ratio; geometric mean."""
    t_test: float | None
    """Two-sided p of the paired t test on the log ratios; None below two pairs."""
    sign_flip: float | None
    """Two-sided p of the exact test that assumes nothing of their distribution; with n pairs at least 2 / 2^n."""


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean, and Student's t interval about it (Student 1908).

    Args:
        values: at least one, finite, independent of each other.
        level: the share of such intervals that hold the true mean, above 0 and below 1.
    """
    from scipy.stats import t  # takes half a second to import

    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Interval(mean, None, None, n)
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(t.ppf((1 + level) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half, n)


def ratio_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The geometric mean of positive values, and the interval of ``mean_interval`` on their logarithms."""
    mean, low, high, n = mean_interval([math.log(value) for value in values], level)
    return Interval(
        math.exp(mean), None if low is None else math.exp(low), None if high is None else math.exp(high), n
    )


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float], level: float = LEVEL) -> PairedRatio:
    """Compares two variants by the ratios of what was measured in pairs, such as of one seed.

    Args:
        numerators: positive.
        denominators: positive, as many, in the same order of the pairs.
        level: of the interval.
    """
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    logs = [math.log(ratio) for ratio in ratios]
    return PairedRatio(ratio_interval(ratios, level), _t_test(logs), _sign_flip(logs))


def _t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of a mean of zero."""
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return None
    mean = math.fsum(differences) / n
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    if not error:
        return 1.0 if not mean else 0.0
    return float(2 * t.sf(abs(mean) / error, n - 1))


def _sign_flip(differences: Sequence[float]) -> float | None:
    """Two-sided p if each difference were as likely to have the other sign (Fisher 1935, section 21)."""
    if not 2 <= len(differences) <= _MOST_PAIRS:
        return None
    sizes = [abs(d) for d in differences]
    seen = abs(math.fsum(differences)) * (1 - 1e-12)  # sums in another order round otherwise
    sums = [
        abs(math.fsum(s * d for s, d in zip(signs, sizes, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(sizes))
    ]
    return sum(total >= seen for total in sums) / len(sums)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1 to 1; None below three points, or where one of the two never changes."""
    from scipy.stats import spearmanr

    if len(a) < 3 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)


def correlation_interval(values: Sequence[float]) -> Interval:
    """The mean of correlations and its interval, by Fisher's z (Fisher 1921), so that neither leaves -1 to 1."""
    mean, low, high, n = mean_interval([math.atanh(max(-_LARGEST, min(_LARGEST, value))) for value in values])
    return Interval(
        math.tanh(mean), low if low is None else math.tanh(low), high if high is None else math.tanh(high), n
    )


def reached_at(places: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Where a curve first falls to a value, straight lines between the points of the values' logarithms.

    Args:
        places: increasing, such as seconds.
        values: positive, as many, such as FIDs.
        target: positive.

    Returns:
        A place; the first one where the curve starts at or below the target; None: it never gets there.
    """
    if not places:
        return None
    if values[0] <= target:
        return places[0]
    for (x, above), (end, below) in itertools.pairwise(zip(places, values, strict=True)):
        if below <= target:
            return x + (end - x) * math.log(above / target) / math.log(above / below)
    return None


def value_at(places: Sequence[float], values: Sequence[float], place: float) -> float | None:
    """A curve's value at a place, straight lines between its points; None outside of them."""
    if not places or not places[0] <= place <= places[-1]:
        return None
    for (x, a), (end, b) in itertools.pairwise(zip(places, values, strict=True)):
        if place <= end:
            return b if end == x else a + (b - a) * (place - x) / (end - x)
    return values[-1]
