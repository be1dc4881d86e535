"""Lightweight rescheduling against every assignment of phases."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from thunderserve.policy import Problem
from thunderserve.scheduler.configuration import StageChoice
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.phasings import Phasings
from thunderserve.scheduler.solution import Group, together
from thunderserve.scheduler.standing import stages_of
from thunderserve.scheduler.system import System
from thunderserve.spec.plan import Phase, Plan

SYSTEM = System(steps=12, no_gain=8, requests=200, longer_requests=400, judged_requests=400)
RATE_PER_S = 14.0
"""What cloud-32 carries whole, and no longer carries without a node unless phases are dealt anew with care."""


@pytest.fixture(scope="module")
def loaded(cloud: Problem) -> Problem:
    return replace(cloud, rate_per_s=RATE_PER_S)


@pytest.fixture(scope="module")
def plan(loaded: Problem) -> Plan:
    return SYSTEM.plan(loaded)


def best_of_all(lower: Lower, plan: Plan, lost: tuple[int, ...]) -> float:
    """The highest attainment of any phases of the surviving replicas, with the flows of the linear program for each."""
    kept = [replica for replica in plan.replicas if not set(replica.devices) & set(lost)]
    stages = [stages_of(lower.inventory, replica) for replica in kept]
    unlike = {
        tuple(sorted(zip(chosen, stages, strict=True)))
        for chosen in product((Phase.PREFILL, Phase.DECODE), repeat=len(kept))
    }
    best = 0.0
    for phasing in sorted(unlike):
        configured = tuple(lower.estimator.deduce.finish(phase, own) for phase, own in phasing)
        groups = tuple(
            Group(one.phase, together(*(((stage.kind, stage.tp),) for stage in one.stages))) for one in configured
        )
        if all(one.kv_tokens >= lower.estimator.sample.longest for one in configured):
            estimate = lower.estimator(groups, configured)
            best = max(best, lower.race.whole(estimate).attainment if estimate else 0.0)
    return best


@pytest.mark.parametrize("node", ["a40", "a6000-0", "a5000-0", "3090ti-0"])
def test_after_a_loss_no_assignment_of_phases_is_much_better(loaded: Problem, plan: Plan, node: str) -> None:
    lost = tuple(device.id for device in loaded.cluster.devices if device.node == node)[:4]
    found = SYSTEM.reschedule(plan, loaded, lost)
    truth = best_of_all(SYSTEM.lower(loaded), plan, lost)
    assert found.score.attainment >= truth - 0.01
    assert SYSTEM.reschedule(plan, loaded, lost, every=True).score.attainment == truth


def test_phases_of_equal_replicas_are_told_apart_by_the_fewest_flips() -> None:
    pair, other = (StageChoice(0, 2, 60),), (StageChoice(1, 4, 60),)
    decode, prefill = Phase.DECODE, Phase.PREFILL
    options = Phasings((pair, pair, other), (prefill, decode, decode), (prefill, decode))
    assert options.settled((decode, prefill, decode)) == (prefill, decode, decode)
    assert len(options.all()) == 6
    assert set(options.flips((prefill, decode, decode))) == {
        (decode, decode, decode),
        (prefill, prefill, decode),
        (prefill, decode, prefill),
    }


def test_too_many_assignments_are_refused() -> None:
    stages = tuple((StageChoice(kind, 2, 60),) for kind in range(20))
    with pytest.raises(ValueError, match="assignments of phases"):
        Phasings(stages, (Phase.PREFILL,) * 20, (Phase.PREFILL, Phase.DECODE)).all()
