"""Flows corrected by simulation: still shares, the same every time, and never taken where they are worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planning_problems import make_problem

from thunderserve.policy import Problem
from thunderserve.scheduler.correct import corrected, missed_by_arc
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import SPLIT, moves_for, sampler
from thunderserve.scheduler.score import Misses
from thunderserve.scheduler.search import run, start
from thunderserve.scheduler.select import farthest, judged, last_round
from thunderserve.scheduler.system import System

SMALL = System(requests=100, longer_requests=300, judged_requests=200, finalists=4, steps=6, no_gain=6)


@pytest.fixture(scope="module")
def loaded() -> Problem:
    """A load that the cluster cannot quite carry, so that requests miss their limits."""
    return make_problem("cloud-32", "llama-30b", 24.0)


@pytest.fixture(scope="module")
def lower(loaded: Problem) -> Lower:
    return SMALL.lower(loaded)


@pytest.fixture(scope="module")
def some(lower: Lower) -> list[Estimate]:
    rng = np.random.default_rng(3)
    first = start(lower, SPLIT, "cluster", rng)
    near = sampler(list(moves_for(SPLIT).values()), lower.feasible)(first, 8, rng)
    return [lower.needed(one) for one in [first, *near] if lower.estimate(one) is not None]


def shares(estimate: Estimate) -> np.ndarray:
    return np.array([arc.share for arc in estimate.arcs])


def test_blame_by_hand() -> None:
    """Replicas 0 and 1 prefill, 2 decodes. Of 0's three requests one is late, of 1's two one; 2 is slow with one in time."""
    misses = Misses(
        late=np.array([True, False, False, True, False, True]),
        slow=np.array([True, False, True, False, False, True]),
        prefill=np.array([0, 0, 0, 1, 1, -1]),
        decode=np.array([2, 2, 2, 2, 2, -1]),
    )
    blame = missed_by_arc(misses, np.array([0, 1]), np.array([2, 2]))
    assert blame == pytest.approx([1 / 3 + 1 / 5, 1 / 2 + 1 / 5])


def test_misses_are_what_attainment_counts(lower: Lower, some: list[Estimate]) -> None:
    for estimate in some:
        misses = lower.simulation.misses(estimate)
        assert lower.simulation.attainment(estimate) == (~(misses.late | misses.slow)).mean()
        assert {*misses.prefill, *misses.decode} <= {-1, *range(len(estimate.solution))}


def test_corrected_shares_are_shares_of_the_same_arcs_and_the_same_every_time(
    lower: Lower, some: list[Estimate]
) -> None:
    for estimate in some:
        better = corrected(estimate, [lower.simulation])
        assert (shares(better) >= 0).all()
        assert shares(better).sum() == pytest.approx(1)
        assert [replace(arc, share=0) for arc in better.arcs] == [replace(arc, share=0) for arc in estimate.arcs]
        assert better.solution == estimate.solution
        assert (shares(corrected(estimate, [lower.simulation])) == shares(better)).all()


def test_an_overloaded_replica_gets_less(cloud: Problem) -> None:
    calm = replace(SMALL, requests=400).lower(cloud)
    estimate = calm.needed(start(calm, SPLIT, "cluster", np.random.default_rng(0)))
    crowd = max(estimate.arcs, key=lambda arc: arc.share).prefill
    at_crowd = np.array([arc.prefill == crowd for arc in estimate.arcs])
    skewed = shares(estimate) * np.where(at_crowd, 4.0, 1.0)
    arcs = zip(estimate.arcs, skewed / skewed.sum(), strict=True)
    crowded = replace(estimate, arcs=tuple(replace(arc, share=float(share)) for arc, share in arcs))
    better = corrected(crowded, [calm.simulation])
    assert shares(better)[at_crowd].sum() < 0.9 * shares(crowded)[at_crowd].sum()
    assert calm.simulation.attainment(better) > calm.simulation.attainment(crowded)


def test_a_last_choice_with_corrections_is_no_worse_than_one_without(
    loaded: Problem, lower: Lower, some: list[Estimate]
) -> None:
    found = {one.solution: lower.race.whole(one) for one in some}
    last = last_round(loaded, lower, 200)

    def mean(corrections: int) -> float:
        chosen = farthest(judged(lower, found, last, finalists=4, corrections=corrections), last)
        on_last = sum(200 * each.attainment(chosen.estimate) for each in last)
        return (400 * lower.race.whole(chosen.estimate).attainment + on_last) / 800

    assert mean(4) >= mean(0) - 1e-3  # attainments are compared to three digits


def test_the_same_seed_gives_the_same_plan(loaded: Problem) -> None:
    assert SMALL.plan(loaded) == SMALL.plan(loaded)


def test_uniform_flows_stay_uniform(loaded: Problem) -> None:
    uniform = replace(SMALL, orchestration="uniform")
    found = run(loaded, uniform.lower(loaded), uniform.settings(loaded))
    assert shares(found.estimate) == pytest.approx(1 / len(found.estimate.arcs))
