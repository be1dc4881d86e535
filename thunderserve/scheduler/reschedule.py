"""Lightweight rescheduling (the paper, second-hand): only phases and flows change; groups, TP, PP and layers stay.

A pure function: a running plan and what has changed go in, the plan to switch to comes out. Replicas that lost a card are
dropped. Full rescheduling is ``System.plan`` on what is left of the cluster.

Closed forms are poor judges of an overloaded plan, and after a loss most are: so they only say where to look, and it is
simulation that is followed uphill.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from thunderserve.scheduler.deduce import Deducer
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.materialise import flows_of
from thunderserve.scheduler.phasings import Phasing, Phasings
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.standing import Standing, stages_of
from thunderserve.spec.plan import Phase, Plan, Replica

PROMISING = 16
"""Phasings, the best by estimate, that are simulated before the best of them is followed uphill."""
NEAR, MOST = 8, 64
"""Neighbours simulated a step of that climb, the best by estimate; and phasings simulated in all, about."""


@dataclass(frozen=True)
class Rescheduled:
    """The new plan, its score on the planner's samples, and how many assignments of phases were looked at."""

    plan: Plan
    score: Score
    estimated: int


def reschedule(
    plan: Plan,
    lower: Lower,
    *,
    lost: Collection[int] = (),
    phases: tuple[Phase, ...] = (Phase.PREFILL, Phase.DECODE),
    finalists: int = 6,
    every: bool = False,
) -> Rescheduled:
    """The plan to switch to. ``lower`` is the lower level for the new problem, on the whole cluster.

    From the present phases, flips and exchanges of two phases are followed uphill by estimate; from the best that was seen on
    the way, uphill by simulation on the short trace; the ``finalists`` best there run the long one as well. With
    ``every``, all assignments of phases run both: the truth that the climb is held against. Raises ValueError, in words, if
    what is left cannot serve, or has too many assignments to run them all.
    """
    kept = [replica for replica in plan.replicas if not set(replica.devices) & set(lost)]
    present = tuple(replica.phase if replica.phase in phases else phases[0] for replica in kept)
    stages = tuple(stages_of(lower.inventory, replica) for replica in kept)
    world = Standing(lower, Phasings(stages, present, phases))
    if every:
        world.look(world.options.all())
    else:
        _climb_by_estimate(world)
    if not world.able():
        raise ValueError(
            f"what is left of the plan ({len(kept)} of {len(plan.replicas)} replicas) cannot serve both phases"
        )
    if every:
        world.simulate(world.able())
    else:
        _climb_by_simulation(world)
    best, score = world.winner(len(world.attained) if every else finalists)
    return Rescheduled(_replanned(plan, kept, world.needed(best), lower.estimator.deduce), score, len(world.estimates))


def _climb_by_estimate(world: Standing) -> None:
    """From the present phases; where the loss has left one phase without a replica, from each flip of them as well."""
    present = world.options.present
    for first in [present] if len(set(present)) > 1 else [present, *world.options.flips(present)]:
        world.look([first])
        current, better = None, first
        while better != current:
            current, better = better, _better_by_estimate(world, better)


def _better_by_estimate(world: Standing, phasing: Phasing) -> Phasing:
    """The best flip of a phasing, or exchange where no flip helps (exchanges are many); itself if none is better."""
    for near in (world.options.flips, world.options.exchanges):
        tried = near(phasing)
        world.look(tried)
        best = min([phasing, *tried], key=world.promise)
        if best != phasing:
            return best
    return phasing


def _climb_by_simulation(world: Standing) -> None:
    """From the best of the most promising, to the best of its neighbours, until none is better or ``MOST`` have been run."""
    options = world.options
    world.simulate([*world.able()[:PROMISING], *(one for one in [options.present] if world.estimates[one] is not None)])
    current = min(world.attained, key=world.merit)
    while len(world.attained) < MOST:
        near = dict.fromkeys([*options.flips(current), *options.exchanges(current)])
        world.look(near)
        fresh = [one for one in near if one not in world.attained and world.estimates[one] is not None]
        world.simulate(sorted(fresh, key=world.promise)[:NEAR])
        best = min(world.attained, key=world.merit)
        if best == current:
            return
        current = best


def _replanned(plan: Plan, kept: list[Replica], estimate: Estimate, deduce: Deducer) -> Plan:
    """The kept replicas with their new phases and flows."""
    reached = sorted({group for arc in estimate.arcs for group in (arc.prefill, arc.decode)})
    replicas = []
    for place in reached:
        one = estimate.configurations[place]
        batching = deduce.batching[one.phase].model_copy(update={"max_sequences": one.max_sequences})
        replicas.append(kept[place].model_copy(update={"phase": one.phase, "batching": batching}))
    return Plan(
        system=plan.system, replicas=tuple(replicas), flows=flows_of(estimate, reached), transfer=plan.transfer,
        notes=dict(plan.notes),
    )  # fmt: skip
