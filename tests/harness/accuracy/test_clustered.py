"""Cluster bootstrap and cluster-robust errors against closed forms, a slow twin, and data whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.clustered import interval, resampled_means, standard_error

VALUES = st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 5)), min_size=2, max_size=30)


def test_questions_by_themselves_have_the_usual_error() -> None:
    values = np.array([1.0, 0.0, 0.0, 1.0, 1.0])  # s^2 = 5/4 * 0.6 * 0.4 = 0.3
    assert standard_error(values, range(5)) == pytest.approx(math.sqrt(0.3 / 5))


def test_copies_of_a_question_teach_nothing() -> None:
    values = np.array([1.0, 4.0, 2.0, 7.0])
    alone = standard_error(values, "abcd")
    copies = standard_error(np.repeat(values, 10), np.repeat(list("abcd"), 10).tolist())
    assert copies == pytest.approx(alone)
    assert standard_error(np.repeat(values, 10), range(40)) < alone / 3, "blind to groups it would be far too sure"


@given(VALUES)
def test_the_error_is_the_sandwich_written_as_loops(pairs: list[tuple[float, int]]) -> None:
    """Liang and Zeger 1986 for a mean: sqrt(G / (G - 1)) / N * sqrt(sum over groups of (sum of residuals)^2)."""
    values, groups = np.array([pair[0] for pair in pairs]), [pair[1] for pair in pairs]
    names = set(groups)
    if len(names) < 2:
        assert math.isnan(standard_error(values, groups))
        return
    mean = sum(values) / len(values)
    totals = [sum(v - mean for v, g in zip(values, groups, strict=True) if g == name) for name in names]
    expected = math.sqrt(len(names) / (len(names) - 1) * sum(total**2 for total in totals)) / len(values)
    assert standard_error(values, groups) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_resampling_draws_whole_groups_as_often_as_all_possible_draws_do() -> None:
    """Three groups have 27 equally likely draws: the means' distribution is enumerated and compared."""
    values, groups = np.array([1.0, 2.0, 10.0, 4.0, 5.0, 6.0]), ["a", "a", "b", "c", "c", "c"]
    members = {"a": [1.0, 2.0], "b": [10.0], "c": [4.0, 5.0, 6.0]}
    draws = [list(itertools.chain(*(members[name] for name in draw))) for draw in itertools.product("abc", repeat=3)]
    exact = sorted(round(sum(draw) / len(draw), 9) for draw in draws)
    found = resampled_means(values, groups, seed=4, resamples=54_000)
    seen, counts = np.unique(found.round(9), return_counts=True)
    assert list(seen) == sorted(set(exact))
    expected = np.array([exact.count(value) / 27 for value in seen])
    assert np.abs(counts / 54_000 - expected).max() < 5 * math.sqrt(0.25 / 54_000)


def test_the_interval_is_that_of_the_normal_law_for_many_questions() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 1500)
    low, high = interval(resampled_means(values, range(1500)))
    half = 1.96 * values.std(ddof=1) / math.sqrt(1500)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06 * half)


def test_an_interval_of_another_level_is_narrower() -> None:
    means = np.arange(1001.0)
    assert interval(means) == pytest.approx((25.0, 975.0))
    assert interval(means, confidence=0.5) == pytest.approx((250.0, 750.0))


def test_equal_seeds_give_equal_intervals() -> None:
    values = np.random.default_rng(2).normal(size=50)
    assert interval(resampled_means(values, range(50), seed=3)) == interval(resampled_means(values, range(50), seed=3))
    assert interval(resampled_means(values, range(50), seed=3)) != interval(resampled_means(values, range(50), seed=4))


def conversation(generator: np.random.Generator, groups: int = 20) -> tuple[np.ndarray, list[int]]:
    """2 to 17 turns that share their conversation's mood; the true mean is 0."""
    values, names = [], []
    for group in range(groups):
        turns = int(generator.integers(2, 18))
        values.append(generator.normal(0, 1) + generator.normal(0, 1, turns))
        names += [group] * turns
    return np.concatenate(values), names


def test_twenty_conversations_cover_the_truth_where_single_questions_do_not() -> None:
    """95 % intervals of 600 made-up studies. A percentile bootstrap of 20 groups is known to fall a little short of 95 %."""
    generator, runs = np.random.default_rng(8), 600
    covered = blind = sandwich = 0
    for _ in range(runs):
        values, groups = conversation(generator)
        low, high = interval(resampled_means(values, groups, resamples=600))
        covered += low <= 0 <= high
        low, high = interval(resampled_means(values, range(len(values)), resamples=600))
        blind += low <= 0 <= high
        sandwich += abs(values.mean()) <= 2.09 * standard_error(values, groups)  # Student's, 19 degrees of freedom
    assert covered / runs > 0.88
    assert sandwich / runs > 0.91
    assert blind / runs < 0.75


def test_pairing_finds_a_loss_that_separate_averages_cannot_see() -> None:
    """Scores spread by 40 points from question to question, a codec costs 1: 200 questions show it only when paired."""
    generator = np.random.default_rng(5)
    ours = theirs = seen = lost = 0
    for _ in range(100):
        reference = generator.normal(50, 40, 200)
        coded = reference - 1 + generator.normal(0, 4, 200)
        high = interval(resampled_means(coded - reference, range(200), resamples=500))[1]
        seen += high < 0
        ours, theirs = standard_error(coded, range(200)), standard_error(reference, range(200))
        lost += (coded - reference).mean() + 1.96 * math.hypot(ours, theirs) < 0
    assert seen > 85
    assert lost == 0
