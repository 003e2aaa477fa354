"""The statistics of comparisons, on values whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3gan.comparison.statistics import (
    correlation_interval,
    mean_interval,
    paired_ratio,
    rank_correlation,
    ratio_interval,
    reached_at,
    value_at,
)

DRAWS = 2000


def deviation(share: float) -> float:
    """Four standard errors of a share of DRAWS draws: by chance missed once in 16,000 tests."""
    return 4 * math.sqrt(share * (1 - share) / DRAWS)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_hold_the_true_mean_as_often_as_they_say(count: int, level: float) -> None:
    random = np.random.default_rng(count)
    held = 0
    for values in np.exp(random.normal(3.0, 0.2, (DRAWS, count))):
        interval = ratio_interval(values.tolist(), level)
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= math.exp(3.0) <= interval.high
    assert abs(held / DRAWS - level) < deviation(level)


@pytest.mark.parametrize("count", [3, 4, 6])
def test_equal_variants_are_found_different_as_seldom_as_p_says(count: int) -> None:
    random = np.random.default_rng(count)
    seeds = random.normal(3.0, 1.0, (DRAWS, count, 1))  # what a pair shares falls out of its ratio
    pairs = np.exp(seeds + random.normal(0.0, 0.1, (DRAWS, count, 2)))
    tests = [paired_ratio(pair[:, 0].tolist(), pair[:, 1].tolist()) for pair in pairs]
    for level in (0.05, 0.25):
        false = [test.t_test is not None and test.t_test < level for test in tests]
        assert abs(np.mean(false) - level) < deviation(level)
        # Exact: never more often than it says, and p comes in steps of 2 / 2^count.
        assert np.mean([test.sign_flip is not None and test.sign_flip <= level for test in tests]) <= (
            level + deviation(level)
        )
    assert min(test.sign_flip or 0.0 for test in tests) == 2 / 2**count


def test_a_true_ratio_is_found() -> None:
    random = np.random.default_rng(0)
    denominators = np.exp(random.normal(3.0, 1.0, 8))
    numerators = 0.8 * denominators * np.exp(random.normal(0.0, 0.02, 8))
    found = paired_ratio(numerators.tolist(), denominators.tolist())
    assert found.interval.mean == pytest.approx(0.8, rel=0.03)
    assert found.interval.high is not None
    assert found.interval.high < 0.85
    assert found.t_test is not None
    assert found.t_test < 1e-6
    assert found.sign_flip == 2 / 2**8


def test_known_values() -> None:
    """Student's t for 4 degrees of freedom is 2.776 (any table)."""
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert interval.mean == 3.0
    assert interval.high == pytest.approx(3 + 2.7764 * math.sqrt(2.5 / 5), abs=1e-3)
    assert mean_interval([7.0]) == (7.0, None, None, 1)
    assert paired_ratio([2.0], [1.0]) == ((2.0, None, None, 1), None, None)
    assert paired_ratio([2.0, 2.0], [2.0, 2.0]).t_test == 1.0
    assert rank_correlation([1, 2, 3, 4], [2, 4, 8, 16]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 2], [2, 1]) is None
    assert rank_correlation([1, 1, 1], [3, 2, 1]) is None


def test_correlations_stay_within_one() -> None:
    found = correlation_interval([0.95, 0.9, 0.97, 0.8])
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.mean < found.high < 1
    assert correlation_interval([1.0, 1.0]).mean == pytest.approx(0.99)
    assert correlation_interval([0.5]).low is None


def test_where_a_curve_gets() -> None:
    x, values = [100.0, 200.0, 300.0, 400.0], [80.0, 20.0, 40.0, 5.0]
    assert reached_at(x, values, 40.0) == pytest.approx(150.0)  # half way in the logarithm
    assert reached_at(x, values, 20.0) == pytest.approx(200.0)
    assert reached_at(x, values, 10.0) == pytest.approx(300 + 100 * 2 / 3)
    assert reached_at(x, values, 100.0) == 100.0
    assert reached_at(x, values, 4.0) is None
    assert reached_at([], [], 4.0) is None
    assert value_at(x, values, 250.0) == pytest.approx(30.0)
    assert value_at(x, values, 400.0) == 5.0
    assert value_at(x, values, 99.0) is None
    assert value_at(x, values, 401.0) is None


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=8), st.floats(1e-3, 1e6))
def test_a_curve_reaches_what_its_smallest_value_is(values: list[float], target: float) -> None:
    x = [float(i) for i in range(len(values))]
    found = reached_at(x, values, target)
    assert (found is not None) == (min(values) <= target)
    if found is not None:
        first = next(i for i, value in enumerate(values) if value <= target)
        assert max(0, first - 1) - 1e-9 <= found <= first + 1e-9
