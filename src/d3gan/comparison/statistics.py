"""Intervals over seeds, paired tests, and where a curve reaches a value.

Distances and times are compared by ratios, so their logarithms are averaged: the mean is the geometric one, and no
interval reaches below 0. All intervals are Student's t: with three seeds they are wide, as they have to be.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
_MOST_PAIRS = 16  # the exact test tries all 2^n signs
_LARGEST = 0.99  # Fisher's z of 1 is infinite; of ten ranks the largest correlation below 1 is 0.988


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float | None
    """None for a single value, which does not show how much the values vary."""
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
    """Two-sided p of the exact test that assumes no distribution; with n pairs at least 2 / 2^n."""


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean, and Student's t interval about it (Student 1908).

    Args:
        values: at least one, finite, independent of each other.
        level: the share of such intervals that hold the true mean, above 0 and below 1.
    """
    mean, error = _mean_and_standard_error(values)
    if error is None:
        return Interval(mean, None, None, 1)
    half = _student_quantile((1 + level) / 2, len(values) - 1) * error
    return Interval(mean, mean - half, mean + half, len(values))


def ratio_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The geometric mean of positive values, and the interval of ``mean_interval`` on their logarithms."""
    return _transformed(mean_interval([math.log(value) for value in values], level), math.exp)


def correlation_interval(values: Sequence[float]) -> Interval:
    """The mean of correlations and its interval, by Fisher's z (Fisher 1921), so that neither leaves -1 to 1."""
    z = [math.atanh(max(-_LARGEST, min(_LARGEST, value))) for value in values]
    return _transformed(mean_interval(z), math.tanh)


def _transformed(interval: Interval, function: Callable[[float], float]) -> Interval:
    low, high = (None if bound is None else function(bound) for bound in (interval.low, interval.high))
    return Interval(function(interval.mean), low, high, interval.n)


def _mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """By exact sums, so that equal values have a standard error of exactly 0; None for a single value."""
    n, mean = len(values), math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (n - 1) / n) if n > 1 else None


@functools.cache
def _student_quantile(share: float, degrees: int) -> float:
    from scipy.stats import t  # takes half a second to import

    return float(t.ppf(share, degrees))


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float], level: float = LEVEL) -> PairedRatio:
    """Compares two variants by the ratios of values that were measured in pairs, such as with the same seed.

    Args:
        numerators: positive.
        denominators: positive, as many, in the same order of the pairs.
        level: of the interval.
    """
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    logs = [math.log(ratio) for ratio in ratios]
    return PairedRatio(ratio_interval(ratios, level), _t_test(logs), _sign_flip(logs))


def _t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of a mean of zero. SciPy's ttest_1samp is the same, but warns where all differences are equal."""
    from scipy.stats import t

    mean, error = _mean_and_standard_error(differences)
    if error is None:
        return None
    return float(2 * t.sf(abs(mean) / error, len(differences) - 1)) if error else float(mean == 0)


def _sign_flip(differences: Sequence[float]) -> float | None:
    """Two-sided p if each difference were as likely to have the other sign (Fisher 1935, section 21)."""
    if not 2 <= len(differences) <= _MOST_PAIRS:
        return None
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    sums = np.abs(signs @ np.array(differences))
    return float(np.mean(sums >= sums[0] * (1 - 1e-12)))  # sums in another order round differently


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1 to 1; None below three points, or where one of the two never changes."""
    from scipy.stats import spearmanr

    if len(a) < 3 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)


def reached_at(x: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Where a curve first falls to a value, with straight lines between the logarithms of its values.

    Args:
        x: increasing, such as seconds.
        values: positive, as many, such as FIDs.
        target: positive.

    Returns:
        An x, the first one where the curve starts at or below the target; None where it never falls to it.
    """
    i = next((i for i, value in enumerate(values) if value <= target), None)
    if not i:
        return None if i is None else x[0]
    return x[i - 1] + (x[i] - x[i - 1]) * math.log(values[i - 1] / target) / math.log(values[i - 1] / values[i])


def value_at(x: Sequence[float], values: Sequence[float], at: float) -> float | None:
    """A curve's value at an x, with straight lines between its points; None outside of them."""
    return float(np.interp(at, x, values)) if x and x[0] <= at <= x[-1] else None
