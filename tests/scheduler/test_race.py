"""The two samples of a search, the last choice, and the clock that ends both."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from planning_problems import make_problem

from thunderserve.policy import Problem
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import SPLIT, moves_for, sampler
from thunderserve.scheduler.race import Race
from thunderserve.scheduler.search import climb, enough, run, start
from thunderserve.scheduler.select import farthest, judged, last_round
from thunderserve.scheduler.stops import after_steps
from thunderserve.scheduler.system import System
from thunderserve.spec.generate import random_cluster

SMALL = System(requests=100, longer_requests=300, judged_requests=200, finalists=4, steps=10, no_gain=10)


@pytest.fixture
def loaded() -> Problem:
    """A load that the cluster cannot quite carry, so that scores differ."""
    return make_problem("cloud-32", "llama-30b", 24.0)


@pytest.fixture
def lower(loaded: Problem) -> Lower:
    return SMALL.lower(loaded)


def some(lower: Lower, number: int) -> list[Estimate]:
    """The clustered start and neighbours of it."""
    rng = np.random.default_rng(3)
    first = start(lower, SPLIT, "cluster", rng)
    near = sampler(list(moves_for(SPLIT).values()), lower.feasible)(first, number, rng)
    return [lower.needed(one) for one in [first, *near] if lower.estimate(one) is not None]


def test_a_score_on_both_samples_counts_every_request_once(lower: Lower) -> None:
    assert lower.race.long is not None
    for estimate in some(lower, 6):
        met = 100 * lower.race.short.attainment(estimate) + 300 * lower.race.long.attainment(estimate)
        assert lower.race.whole(estimate).attainment == pytest.approx(met / 400, abs=1e-12)


def test_those_left_behind_score_less_than_the_leader_by_what_they_are_behind(lower: Lower) -> None:
    race = lower.race
    first, *rest = some(lower, 40)
    leader, ahead = race(first), race.short.attainment(first)
    left = 0
    for estimate in rest:
        score, short = race(estimate), race.short.attainment(estimate)
        luck = 2.5 * np.sqrt(leader.attainment * (1 - leader.attainment) / 100)
        least = min(ahead - luck, leader.attainment)
        if estimate.solution in race.finished:
            assert short >= least
        else:
            left += 1
            assert short < least
            assert score.attainment == pytest.approx(max(0.0, leader.attainment - (ahead - short)), abs=1e-12)
        if score > leader:
            leader, ahead = score, short
    assert left > 5
    assert max(race.finished.values()) == leader


def test_where_any_lag_is_forgiven_everybody_runs_both(lower: Lower) -> None:
    race = Race(lower.race.short, lower.race.long, deviations=1e9)
    estimates = some(lower, 12)
    assert [race(one) for one in estimates] == [race.whole(one) for one in estimates]
    assert set(race.finished) == {one.solution for one in estimates}


def test_beside_a_leader_that_meets_all_limits_only_more_capacity_runs_both() -> None:
    calm = SMALL.lower(make_problem("cloud-32", "llama-30b", 0.5))
    first, *rest = some(calm, 25)
    leader = calm.race(first)
    assert leader.attainment == 1.0
    for estimate in rest:
        score = calm.race(estimate)
        if estimate.solution in calm.race.finished:
            assert (estimate.capacity_per_s, score.saved_per_hour) > leader[1:]
        leader = max(leader, score)
    assert 1 < len(calm.race.finished) < len(rest)


def test_without_a_longer_sample_the_short_one_decides(lower: Lower) -> None:
    race = Race(lower.race.short)
    for estimate in some(lower, 12):
        assert race(estimate) == race.short(estimate)


def test_a_search_ends_on_a_solution_that_has_run_both(loaded: Problem, lower: Lower) -> None:
    settings = replace(SMALL.settings(loaded), stop=after_steps(8))
    outcome = climb(lower, settings, start(lower, SPLIT, "cluster", np.random.default_rng(0)))
    assert lower.race.finished[outcome.best] == outcome.score
    assert len(lower.race.finished) < outcome.scored


def test_the_last_choice_is_the_best_mean_over_all_requests(loaded: Problem, lower: Lower) -> None:
    estimates = some(lower, 10)
    found = {one.solution: lower.race.whole(one) for one in estimates}
    last = last_round(loaded, lower, 200)
    chosen = farthest(judged(lower, found, last, finalists=len(found)), last)
    mean = {
        one.solution: (400 * found[one.solution].attainment + sum(200 * each.attainment(one) for each in last)) / 800
        for one in estimates
    }
    assert mean[chosen.estimate.solution] >= max(mean.values()) - 1e-3
    assert chosen.judged == last[0](chosen.estimate)


def test_where_a_leader_left_nearly_all_behind_the_last_round_still_has_a_choice(loaded: Problem) -> None:
    lower = SMALL.lower(loaded)
    settings = replace(SMALL.settings(loaded), stop=after_steps(3))
    outcome = climb(lower, settings, start(lower, SPLIT, "cluster", np.random.default_rng(0)))
    lower.race.finished = {outcome.best: outcome.score}
    found = enough(lower, outcome, 4, lambda: False)
    assert len(found) == 4
    assert found.items() >= lower.race.finished.items()
    assert all(found[one] == lower.race.whole(lower.needed(one)) for one in found)
    assert enough(lower, outcome, 4, lambda: True) == lower.race.finished


def test_when_time_is_over_one_finalist_is_judged_all_the_same(loaded: Problem, lower: Lower) -> None:
    found = {one.solution: lower.race.whole(one) for one in some(lower, 10)}
    (only,) = judged(lower, found, last_round(loaded, lower, 50), finalists=10, over=lambda: True)
    assert found[only.estimate.solution] == max(found.values())


def test_samples_of_the_last_round_are_not_those_of_the_search(loaded: Problem, lower: Lower) -> None:
    assert lower.race.long is not None
    used = [lower.race.short, lower.race.long, *last_round(loaded, lower, 100)]
    assert len({one.sample.trace.arrival_s[:50].tobytes() for one in used}) == len(used)
    assert {one.sample.rate_per_s for one in used} == {loaded.rate_per_s}


@pytest.mark.parametrize("cards", [16, 80])
def test_the_clock_ends_search_and_last_choice(cards: int) -> None:
    """A clock that moves by one whenever it is looked at: once a step, and once a finalist."""
    problem = make_problem(random_cluster(cards, 3), "llama-13b", 0.5 * cards)
    ticks = count()
    system = replace(SMALL, steps=10**6, no_gain=10**6)
    settings = replace(system.settings(problem), ends_s=30.0, clock=lambda: float(next(ticks)))
    found = run(problem, system.lower(problem), settings)
    assert sum(one.steps for one in found.outcomes) <= 27
    assert next(ticks) <= 30 + 6 * len(found.outcomes)
    assert (found.parts > 1) == (cards > 64)
