from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from harness.statistics.beta import beta_quantile, incomplete_beta, student_quantile
from harness.statistics.binomial import at_least, at_most, minimum_trials, share_interval, verdict

shapes = st.floats(0.5, 2000)


@given(shapes, shapes, st.floats(0, 1))
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-12)


@given(shapes, shapes, st.floats(0.001, 0.999))
def test_beta_quantile_is_scipys(a: float, b: float, probability: float) -> None:
    assert beta_quantile(a, b, probability) == pytest.approx(special.betaincinv(a, b, probability), rel=1e-7)


@pytest.mark.parametrize(("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (1e6, 1.95997)])
def test_student_quantile_is_the_printed_table(degrees: float, expected: float) -> None:
    assert student_quantile(0.95, degrees) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 300), st.data(), st.floats(0.01, 0.99))
def test_tails_are_the_sums_of_binomial_terms(trials: int, data: st.DataObject, share: float) -> None:
    wins = data.draw(st.integers(0, trials))
    terms = [math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)]
    assert at_least(wins, trials, share) == pytest.approx(math.fsum(terms[wins:]), rel=1e-8, abs=1e-12)
    assert at_most(wins, trials, share) == pytest.approx(math.fsum(terms[: wins + 1]), rel=1e-8, abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_interval_is_clopper_pearsons(trials: int, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, trials))
    expected = stats.binomtest(wins, trials).proportion_ci(0.95, method="exact")
    low, high = share_interval(wins, trials)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= wins / trials <= high <= 1


@given(st.integers(1, 5000), st.data(), st.floats(1, 50))
def test_correlated_trials_widen_the_interval_and_stay_inside(trials: int, data: st.DataObject, effect: float) -> None:
    wins = data.draw(st.integers(0, trials))
    narrow, wide = share_interval(wins, trials), share_interval(wins, trials, effect=effect)
    assert 0 <= wide[0] <= narrow[0] + 1e-12
    assert narrow[1] - 1e-12 <= wide[1] <= 1


def test_nothing_tried_means_nothing_known() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    assert verdict(0, 0, 0.9) == "undetermined"


@pytest.mark.parametrize(("target", "queries"), [(0.90, 64), (0.99, 662)])
def test_one_miss_is_allowed_from_mlperfs_published_sample_on(target: float, queries: int) -> None:
    """MLPerf Inference, early stopping: 64 queries at the 90th and 662 at the 99th percentile allow one miss."""
    assert verdict(queries - 1, queries, target, confidence=0.99) == "holds"
    assert verdict(queries - 2, queries - 1, target, confidence=0.99) == "undetermined"


@pytest.mark.parametrize(("target", "confidence", "expected"), [(0.9, 0.99, 44), (0.99, 0.99, 459), (0.9, 0.95, 29)])
def test_fewest_trials_that_prove_a_share(target: float, confidence: float, expected: int) -> None:
    assert minimum_trials(target, confidence) == expected
    assert verdict(expected, expected, target, confidence) == "holds"
    assert verdict(expected - 1, expected - 1, target, confidence) == "undetermined"


@given(st.integers(1, 400), st.sampled_from([0.9, 0.95, 0.99]))
def test_verdict_moves_one_way_with_successes(trials: int, target: float) -> None:
    order = {"fails": 0, "undetermined": 1, "holds": 2}
    steps = [order[verdict(wins, trials, target)] for wins in range(trials + 1)]
    assert steps == sorted(steps)


def test_false_verdicts_are_as_rare_as_promised() -> None:
    wins = np.random.default_rng(1).binomial(500, 0.9, size=4000)
    verdicts = [verdict(int(count), 500, 0.9, confidence=0.95) for count in wins]
    assert verdicts.count("holds") / 4000 <= 0.055
    assert verdicts.count("fails") / 4000 <= 0.055
    assert verdicts.count("undetermined") / 4000 > 0.88
