"""Lightweight rescheduling (the paper, second-hand): only phases and flows change; groups, TP, PP and layers stay.

A pure function: a running plan and what has changed go in, the plan to switch to comes out. Replicas that lost a card are
dropped. Full rescheduling is ``System.plan`` on what is left of the cluster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from thunderserve.scheduler.configuration import Configuration, StageChoice
from thunderserve.scheduler.deduce import Deducer
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.inventory import Inventory
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.materialise import flows_of
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.solution import Group, together
from thunderserve.spec.plan import Phase, Plan, Replica

Phasing = tuple[Phase, ...]
"""The phase of each surviving replica."""


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
    finalists: int = 4,
) -> Rescheduled:
    """The plan to switch to. ``lower`` is the lower level for the new problem, on the whole cluster.

    From the present phases, flips and exchanges of two phases are followed uphill by estimate; the best few are simulated.
    Raises ValueError, in words, if what is left cannot serve.
    """
    kept = [replica for replica in plan.replicas if not set(replica.devices) & set(lost)]
    stages = [stages_of(lower.inventory, replica) for replica in kept]
    world = _World(lower, stages)
    start = _usable([replica.phase for replica in kept], phases)
    seen: dict[Phasing, Estimate | None] = {}
    for first in _starts(start, phases):
        _climb(first, world, phases, seen)
    able = {one: estimate for one, estimate in seen.items() if estimate is not None}
    ranked = {one: able[one] for one in sorted(able, key=lambda one: _rank(able[one], one, start))[:finalists]}
    if not ranked:
        raise ValueError(
            f"what is left of the plan ({len(kept)} of {len(plan.replicas)} replicas) cannot serve both phases"
        )
    scored = {one: lower.race.whole(estimate) for one, estimate in ranked.items()}
    best = max(scored, key=lambda one: scored[one])
    return Rescheduled(_replanned(plan, kept, ranked[best], lower.estimator.deduce), scored[best], len(seen))


def stages_of(inventory: Inventory, replica: Replica) -> tuple[StageChoice, ...]:
    """A replica's stages by kind. Raises ValueError for a stage over several kinds, which this planner never makes."""
    found = []
    for number, stage in enumerate(replica.stages):
        kinds = {inventory.kind_of[device] for device in stage.devices}
        if len(kinds) != 1:
            raise ValueError(f"stage {number} joins cards of several nodes or types: {stage.devices}")
        found.append(StageChoice(kinds.pop(), stage.tp, stage.num_layers))
    return tuple(found)


@dataclass
class _World:
    """Estimates phasings of fixed stages."""

    lower: Lower
    stages: list[tuple[StageChoice, ...]]

    def __post_init__(self) -> None:
        self._configurations: dict[tuple[int, Phase], Configuration] = {}

    def configuration(self, place: int, phase: Phase) -> Configuration:
        key = (place, phase)
        if key not in self._configurations:
            self._configurations[key] = self.lower.estimator.deduce.finish(phase, self.stages[place])
        return self._configurations[key]

    def estimate(self, phasing: Phasing) -> Estimate | None:
        """None if a replica cannot hold the longest request in its phase, or nothing can pass."""
        chosen = tuple(self.configuration(place, phase) for place, phase in enumerate(phasing))
        if any(one.kv_tokens < self.lower.estimator.sample.longest for one in chosen):
            return None
        groups = tuple(
            Group(one.phase, together(*(((stage.kind, stage.tp),) for stage in one.stages))) for one in chosen
        )
        return self.lower.estimator(groups, chosen)


def _usable(present: list[Phase], phases: tuple[Phase, ...]) -> Phasing:
    return tuple(phase if phase in phases else phases[0] for phase in present)


def _starts(start: Phasing, phases: tuple[Phase, ...]) -> Iterator[Phasing]:
    """The present phases; and each single flip of them where the loss has left one phase without a replica."""
    yield start
    if len(set(start)) == 1:
        yield from _flips(start, phases)


def _flips(phasing: Phasing, phases: tuple[Phase, ...]) -> Iterator[Phasing]:
    for place, present in enumerate(phasing):
        for phase in phases:
            if phase is not present:
                yield (*phasing[:place], phase, *phasing[place + 1 :])


def _exchanges(phasing: Phasing) -> Iterator[Phasing]:
    for a in range(len(phasing)):
        for b in range(a + 1, len(phasing)):
            if phasing[a] is not phasing[b]:
                changed = list(phasing)
                changed[a], changed[b] = phasing[b], phasing[a]
                yield tuple(changed)


def _climb(start: Phasing, world: _World, phases: tuple[Phase, ...], seen: dict[Phasing, Estimate | None]) -> None:
    """Follow flips uphill, and exchanges once no flip helps, until neither does. Replicas that are alike are tried once."""
    current = start
    _look(current, world, seen)
    while True:
        for options in (_flips(current, phases), _exchanges(current)):
            tried = list(_unlike(options, world.stages))
            for one in tried:
                _look(one, world, seen)
            best = min([current, *tried], key=lambda one: _rank(seen[one], one, start))
            if best != current:
                break
        else:
            return
        if best == current:
            return
        current = best


def _look(phasing: Phasing, world: _World, seen: dict[Phasing, Estimate | None]) -> None:
    if phasing not in seen:
        seen[phasing] = world.estimate(phasing)


def _unlike(options: Iterator[Phasing], stages: list[tuple[StageChoice, ...]]) -> Iterator[Phasing]:
    """One of each set of phasings that differ only by replicas with equal stages."""
    forms = set()
    for phasing in options:
        form = tuple(sorted(zip(stages, phasing, strict=True)))
        if form not in forms:
            forms.add(form)
            yield phasing


def _rank(estimate: Estimate | None, phasing: Phasing, start: Phasing) -> tuple[float, float, int, Phasing]:
    """Best first; of equals the one with fewer flips."""
    flips = sum(a is not b for a, b in zip(phasing, start, strict=True))
    if estimate is None:
        return 1.0, 0.0, flips, phasing
    return -round(estimate.attainment, 3), -estimate.capacity_per_s, flips, phasing


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
