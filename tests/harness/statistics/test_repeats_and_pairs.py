from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import repeats
from harness.statistics.bootstrap import mean_interval
from harness.statistics.paired import mcnemar, mean_difference, share_difference


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6))
def test_positive_means_keep_positive_intervals(values: list[float]) -> None:
    found = repeats.positive(values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.interval is not None
    assert 0 <= found.interval[0] <= found.value * (1 + 1e-12) <= found.interval[1] * (1 + 1e-12)


def test_positive_is_students_interval_where_the_spread_is_small() -> None:
    values = [10.0, 10.1, 9.9]
    expected = stats.t.interval(0.95, 2, loc=10, scale=stats.sem(values))
    assert repeats.positive(values).interval == pytest.approx(expected, rel=1e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(20, 5000))
def test_shares_keep_their_interval_inside(shares: list[float], trials: int) -> None:
    found = repeats.share(shares, trials)
    assert found.value is not None
    assert found.interval is not None
    assert 0 <= found.interval[0] <= found.value + 1e-12
    assert found.value - 1e-12 <= found.interval[1] <= 1


def test_three_perfect_seeds_are_not_certainty() -> None:
    low, high = repeats.share([1.0, 1.0, 1.0], 2000).interval or (1.0, 1.0)
    assert high == 1.0
    assert 0.98 < low < 0.9995


def test_one_seed_has_no_spread() -> None:
    assert repeats.positive([3.0]) == (3.0, None, None)
    assert repeats.positive([0.0, 0.0]).interval == (0.0, 0.0)
    assert repeats.signed([1.0]).interval is None
    assert repeats.signed([1.0, 2.0, 3.0]).interval == pytest.approx(stats.t.interval(0.95, 2, 2, 1 / 3**0.5))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 50))
def test_mcnemar_is_the_exact_sign_test(only_first: int, only_second: int, both: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True] * both, bool)
    second = np.array([False] * only_first + [True] * only_second + [True] * both, bool)
    discordant = only_first + only_second
    expected = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-8)


def test_pairing_sees_what_two_averages_cannot() -> None:
    generator = np.random.default_rng(0)
    second = generator.lognormal(0, 2, 3000)
    first = second + generator.normal(0.05, 0.1, 3000)
    found = mean_difference([(first, second)])
    assert found is not None
    assert found.sign == "above"
    assert found.interval[0] < found.mean < found.interval[1]
    assert abs(first.mean() - second.mean()) < 1.96 * second.std() / np.sqrt(3000), "unpaired it drowns"


def test_the_difference_changes_sign_with_the_order() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.random(500), generator.random(500) + 0.2
    forward, backward = mean_difference([(a, b)]), mean_difference([(b, a)])
    assert forward is not None
    assert backward is not None
    assert forward.mean == pytest.approx(-backward.mean)
    assert (forward.sign, backward.sign) == ("below", "above")


def test_requests_that_one_system_lost_are_left_out_of_the_mean() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 5.0]), np.array([0.0, 1.0, np.nan, 4.0])
    found = mean_difference([(a, b)])
    assert found is not None
    assert found.mean == 1.0
    assert mean_difference([(np.array([np.nan]), np.array([1.0]))]) is None


def test_equal_shares_are_bounded_not_proven() -> None:
    same = np.ones(1000, bool)
    found = share_difference([(same, same)])
    assert found is not None
    assert found.sign == "undetermined"
    assert found.interval == pytest.approx((-0.00368, 0.00368), abs=2e-4)


def test_a_handful_of_discordant_requests_prove_nothing() -> None:
    first, second = np.ones(2000, bool), np.ones(2000, bool)
    second[[100, 600, 1100, 1600]] = False
    found = share_difference([(first, second)])
    assert mcnemar(first, second) == pytest.approx(0.125)
    assert found is not None
    assert found.sign == "undetermined"
    second[[200, 700, 1200, 1700]] = False
    found = share_difference([(first, second)])
    assert found is not None
    assert found.sign == "above"


def test_share_difference_stays_within_its_domain() -> None:
    found = share_difference([(np.ones(50, bool), np.zeros(50, bool))] * 3)
    assert found is not None
    assert found.mean == 1.0
    assert found.sign == "above"
    assert found.interval[1] <= 1.0


def test_seeds_that_disagree_leave_the_sign_open() -> None:
    generator = np.random.default_rng(2)
    pairs = [(generator.normal(shift, 0.1, 1000), np.zeros(1000)) for shift in (-1.0, 1.0, 0.6)]
    found = mean_difference(pairs)
    assert found is not None
    assert found.sign == "undetermined"


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).random(300)
    assert mean_interval([values], seed=7) == mean_interval([values], seed=7)
    assert mean_interval([values[:1]]) is None


def test_false_alarms_between_equal_systems_are_rare() -> None:
    generator = np.random.default_rng(4)
    alarms = 0
    for _ in range(300):
        hard = generator.random(600)
        pairs = [(hard + generator.random(600) < 1.0, hard + generator.random(600) < 1.0)]
        found = share_difference(pairs)
        alarms += found is not None and found.sign != "undetermined"
    assert alarms / 300 < 0.1
