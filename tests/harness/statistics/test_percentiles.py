from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics.percentiles import binomial_window, minimum_sample, order_interval, order_ranks, percentile

shares = st.sampled_from([0.5, 0.9, 0.95, 0.99])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), shares)
def test_point_is_the_inverted_empirical_cdf(values: list[float], share: float) -> None:
    array = np.array(values)
    assert percentile(array, share).value == np.quantile(array, share, method="inverted_cdf")


@given(st.integers(1, 20_000), shares)
def test_window_holds_the_binomial_terms(count: int, share: float) -> None:
    first, chances = binomial_window(count, share)
    expected = stats.binom.pmf(np.arange(first, first + len(chances)), count, share)
    np.testing.assert_allclose(chances, expected, rtol=1e-7, atol=1e-14)


@given(st.integers(1, 3000), shares)
def test_ranks_are_the_tightest_that_keep_both_tails(count: int, share: float) -> None:
    ranks = order_ranks(count, share)
    low = int(stats.binom.ppf(0.025, count, share))
    high = int(stats.binom.ppf(0.975, count, share)) + 1
    assert ranks == ((low, high) if low >= 1 and high <= count else None)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_an_interval_exists_from_the_minimum_sample_on(share: float, expected: int) -> None:
    assert minimum_sample(share) == expected
    assert order_ranks(expected - 1, share) is None
    assert order_ranks(expected, share) is not None


def test_a_tail_from_too_few_requests_says_so() -> None:
    found = percentile(np.arange(80.0), 0.99)
    assert found.value == 79
    assert found.interval is None
    assert found.flag == "p99 from 80 requests; its interval needs 368"
    assert percentile(np.arange(80.0), 0.5).flag is None


def test_no_values_no_percentile() -> None:
    assert percentile(np.array([]), 0.9) == (None, None, "no values")


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_intervals_of_independent_values_cover(share: float) -> None:
    draws = np.random.default_rng(2).exponential(size=(1500, 600))
    truth = -np.log(1 - share)
    inside = [low <= truth <= high for low, high in (order_interval(np.sort(row), share) for row in draws)]  # type: ignore[misc]
    assert 0.94 <= np.mean(inside) <= 0.985


def test_intervals_lie_within_the_values_and_around_the_point() -> None:
    values = np.random.default_rng(3).lognormal(size=2000)
    for share in (0.5, 0.9, 0.99):
        found = percentile(values, share)
        assert found.value is not None
        assert found.interval is not None
        assert values.min() <= found.interval[0] <= found.value <= found.interval[1] <= values.max()
