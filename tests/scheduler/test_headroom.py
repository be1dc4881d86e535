"""How far the load may rise: against a slow scan, and what it changes in the last choice and in the load of a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planning_problems import make_problem

from thunderserve.policy import Problem
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.headroom import CALM, HALVINGS, LIFTED, STRIDE, WANTED, headroom, lifted
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import SPLIT
from thunderserve.scheduler.race import Race
from thunderserve.scheduler.sample import further
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.search import other_starts, run, start
from thunderserve.scheduler.select import Judged, farthest, judged, last_round
from thunderserve.scheduler.solution import Solution
from thunderserve.scheduler.system import System
from thunderserve.scheduler.tabu import Step

SMALL = System(requests=300, longer_requests=1200, judged_requests=1500, finalists=4, steps=12, no_gain=12)
FINEST = STRIDE ** (0.5**HALVINGS)


@pytest.fixture(scope="module")
def calm() -> Problem:
    """A load that nearly every plan carries."""
    return make_problem("cloud-32", "llama-30b", 2.0)


@pytest.fixture(scope="module")
def lower(calm: Problem) -> Lower:
    return SMALL.lower(calm)


@pytest.fixture(scope="module")
def starts(calm: Problem, lower: Lower) -> list[Solution]:
    first = start(lower, SPLIT, "cluster", np.random.default_rng(0))
    return [first, *other_starts(lower, SMALL.settings(calm), first)]


@pytest.fixture(scope="module")
def last(calm: Problem, lower: Lower) -> list[Simulation]:
    return last_round(calm, lower, 500)


def attained(simulations: list[Simulation], estimate: Estimate, multiple: float) -> float:
    return float(np.mean([one.at(multiple).attainment(estimate) for one in simulations]))


def test_it_is_the_last_load_before_the_first_that_is_too_much(
    lower: Lower, starts: list[Solution], last: list[Simulation]
) -> None:
    for solution in starts[:3]:
        estimate = lower.needed(solution)
        reach = headroom(last, estimate)
        assert attained(last, estimate, reach) >= WANTED > attained(last, estimate, reach * FINEST)
        scan = 1.0
        while attained(last, estimate, scan * FINEST) >= WANTED:
            scan *= FINEST
        assert reach == pytest.approx(scan, rel=0.03)  # attainment need not fall at every step of the scan


def test_what_does_not_reach_the_best_so_far_is_not_measured_further(
    lower: Lower, starts: list[Solution], last: list[Simulation]
) -> None:
    estimate = lower.needed(starts[0])
    reach = headroom(last, estimate)
    before = lower.simulation.simulated
    assert headroom(last, estimate, least=reach * 1.1) == 0.0
    assert headroom(last, estimate, least=reach) == pytest.approx(reach, rel=FINEST - 1)
    assert lower.simulation.simulated == before  # measured on requests of its own


def test_a_start_that_is_calm_on_the_short_trace_alone_raises_no_load(lower: Lower, starts: list[Solution]) -> None:
    """The short trace ends before the queues of an overloaded plan have grown."""
    best, multiple = lower.needed(starts[1]), 1.0
    assert lower.race.long is not None
    while (busier := lower.race.long.at(multiple)).attainment(best) > (CALM + LIFTED) / 2:
        multiple *= FINEST
    assert lower.simulation.attainment(best) >= CALM
    assert busier.attainment(best) >= LIFTED
    lucky = replace(lower, race=Race(lower.race.short, busier))
    assert lifted(lucky, starts[1:2], lambda: False) == (lucky, 1.0)


def test_a_search_among_plans_that_all_attain_everything_runs_where_they_do_not(
    lower: Lower, starts: list[Solution]
) -> None:
    higher, load = lifted(lower, starts, lambda: False)
    longer = lower.race.long
    assert longer is not None
    assert load > 1.5
    assert higher.estimator.sample.rate_per_s == pytest.approx(load * lower.estimator.sample.rate_per_s)
    kept = [attained([longer], lower.needed(one), load) for one in starts]
    assert max(kept) >= LIFTED
    assert all(attained([longer], lower.needed(one), load * FINEST) < LIFTED for one in starts)


def test_under_a_load_that_no_start_carries_nothing_is_lifted() -> None:
    loaded = make_problem("cloud-32", "llama-30b", 24.0)
    lower = SMALL.lower(loaded)
    first = start(lower, SPLIT, "cluster", np.random.default_rng(0))
    assert lower.simulation.attainment(lower.needed(first)) < CALM
    assert lifted(lower, [first], lambda: False) == (lower, 1.0)


def skewed(estimate: Estimate, *, capacity_per_s: float) -> Estimate:
    """Nearly all requests take one arc; closed forms are said to think highly of it."""
    shares = [0.2 / (len(estimate.arcs) - 1)] * len(estimate.arcs)
    shares[0] = 0.8
    arcs = zip(estimate.arcs, shares, strict=True)
    return replace(
        estimate, arcs=tuple(replace(arc, share=share) for arc, share in arcs), capacity_per_s=capacity_per_s
    )


def test_of_two_that_attain_all_the_one_that_carries_more_is_taken_whatever_closed_forms_say() -> None:
    problem = make_problem("cloud-32", "llama-30b", 0.2)
    lower = SMALL.lower(problem)
    last = last_round(problem, lower, 500)
    good = lower.needed(start(lower, SPLIT, "cluster", np.random.default_rng(0)))
    bad = skewed(good, capacity_per_s=2 * good.capacity_per_s)
    known = [replace(judged_by(lower, one, last), attainment=0.999) for one in (bad, good)]
    assert known[0].searched.capacity_per_s > known[1].searched.capacity_per_s
    assert headroom(last, bad) < 0.8 * headroom(last, good)
    taken = farthest(known, last)
    assert taken.estimate is good
    assert taken.headroom == headroom(last, good)
    assert farthest(known, last, over=lambda: True).estimate is bad  # in time, capacity decides


def judged_by(lower: Lower, estimate: Estimate, last: list[Simulation]) -> Judged:
    score = lower.race.whole(estimate)
    mean = float(np.mean([score.attainment, *(one.attainment(estimate) for one in last)]))
    return Judged(estimate, score, last[0](estimate), mean)


def test_more_headroom_does_not_make_up_for_less_attainment(
    lower: Lower, starts: list[Solution], last: list[Simulation]
) -> None:
    one = judged_by(lower, lower.needed(starts[0]), last)
    better, worse = replace(one, attainment=0.99), replace(one, attainment=0.98)
    assert farthest([worse, better], last) is better
    assert farthest([better], last).headroom is None
    asked = farthest([better], last, always=True).headroom
    assert asked is not None
    assert asked > 1


def test_a_plan_for_a_low_load_carries_more_than_one_that_only_meets_it() -> None:
    calm = make_problem("cloud-32", "llama-30b", 4.0)
    lower = SMALL.lower(calm)
    fresh = [lower.simulation.on(further(calm, lower.estimator.sample, 2000, seed)) for seed in (501, 502)]

    def found(headroom_option: str) -> tuple[float, float]:
        system = replace(SMALL, headroom=headroom_option)
        estimate = run(calm, system.lower(calm), system.settings(calm)).estimate
        return headroom(fresh, estimate), attained(fresh, estimate, 1.0)

    (lifted_reach, lifted_attainment), (reach, attainment) = found("on"), found("off")
    assert lifted_reach > 1.1 * reach
    assert lifted_attainment >= attainment - 0.005


def test_flows_of_a_higher_load_are_judged_at_the_one_that_was_asked_for(calm: Problem) -> None:
    heard: list[float] = []

    def watch(_step: Step[Solution, Score], load: float) -> None:
        heard.append(load)

    lower = SMALL.lower(calm)
    found = run(calm, lower, SMALL.settings(calm), watch)
    assert set(heard) == set(found.loads)
    assert found.loads[0] > 1
    assert found.headroom is not None
    assert found.headroom > 1
    assert found.searched == lower.race.whole(found.estimate).attainment
    assert found.judged == last_round(calm, lower, SMALL.judged_requests)[0](found.estimate)
    assert found.estimate.attainment == lower.needed(found.estimate.solution).attainment


def test_same_seed_same_plan_and_the_plan_says_how_far_it_carries(calm: Problem) -> None:
    plan = SMALL.plan(calm)
    assert plan == SMALL.plan(calm)
    assert "times the load" in plan.notes["search"]
    assert "requests/s" in plan.notes["headroom"]
    assert "headroom" not in replace(SMALL, headroom="off").plan(calm).notes


def test_a_last_choice_that_is_tied_asks_for_headroom(
    lower: Lower, starts: list[Solution], last: list[Simulation]
) -> None:
    found = {one: lower.race.whole(lower.needed(one)) for one in starts}
    chosen = farthest(judged(lower, found, last, finalists=len(found)), last)
    best = max(headroom(last, lower.needed(one)) for one in starts if found[one].attainment > 0.99)
    assert chosen.headroom is not None
    assert chosen.headroom >= best / FINEST**2


def test_where_plans_that_carry_more_attain_too_little_the_load_that_was_asked_for_is_searched_too() -> None:
    problem = make_problem("cloud-32", "llama-30b", 11.75)
    heard: list[float] = []
    lower = SMALL.lower(problem)
    found = run(problem, lower, SMALL.settings(problem), lambda _, load: heard.append(load))
    assert len(found.outcomes) == len(found.loads) == 2
    assert list(dict.fromkeys(heard)) == list(found.loads)
    assert found.loads[0] > found.loads[1] == 1
    assert found.parts == 1
    higher = lower.race.whole(lower.needed(found.outcomes[0].best)).attainment
    assert found.searched >= CALM > higher
