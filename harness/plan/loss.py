"""Cards that fail: what is left of a plan with new phases and flows, beside a plan made anew for what is left."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from harness.plan.case import Case
from harness.plan.judge import Verdict, judge
from harness.plan.make import Made, Search
from thunderserve.spec.cluster import Cluster, DevicePair
from thunderserve.spec.errors import SpecError
from thunderserve.spec.plan import Plan


@dataclass(frozen=True)
class Replanned:
    """A plan for what is left."""

    verdict: Verdict
    seconds: float
    """To make it."""
    changed: int
    """Cards that must load other weights than they hold: what carrying it out costs."""


@dataclass(frozen=True)
class Loss:
    """The answers to a loss; in words where there is none."""

    lost: tuple[int, ...]
    light: Replanned | str
    every: Replanned | str
    """The best of all assignments of phases: what lightweight rescheduling could reach at most."""
    full: Replanned | str


def after_loss(case: Case, made: Made, lost: Collection[int], *, requests: int, seed: int) -> Loss:
    """Reschedule a plan of the ``thunderserve`` system. Raises SpecError for cards there are none of, or another system."""
    if made.search is None:
        raise SpecError(f"{made.plan.system} does not reschedule", key="lost", remedy="use --system thunderserve")
    if unknown := sorted(card for card in lost if card >= len(case.cluster.devices)):
        words = f"{case.cluster.name} has the cards 0 to {len(case.cluster.devices) - 1}"
        raise SpecError("no such card", key="lost", value=unknown[0], remedy=words)
    return Loss(
        tuple(sorted(lost)),
        _light(case, made.plan, made.search, lost, requests, seed, every=False),
        _light(case, made.plan, made.search, lost, requests, seed, every=True),
        _full(case, made.plan, made.search, lost, requests, seed),
    )


def _light(
    case: Case, plan: Plan, search: Search, lost: Collection[int], requests: int, seed: int, *, every: bool
) -> Replanned | str:
    start = time.perf_counter()
    try:
        new = search.system.reschedule(plan, case.problem(seed), lost, every=every).plan
    except ValueError as error:
        return str(error)
    seconds = time.perf_counter() - start
    return Replanned(judge(case, new, requests=requests, seed=seed), seconds, reloaded(plan, new))


def _full(case: Case, plan: Plan, search: Search, lost: Collection[int], requests: int, seed: int) -> Replanned | str:
    cluster, ids = remaining(case.cluster, lost)
    start = time.perf_counter()
    try:
        anew = search.system.plan(replace(case, cluster=cluster).problem(seed))
    except ValueError as error:
        return str(error)
    seconds = time.perf_counter() - start
    new = renumbered(anew, ids)
    return Replanned(judge(case, new, requests=requests, seed=seed), seconds, reloaded(plan, new))


def remaining(cluster: Cluster, lost: Collection[int]) -> tuple[Cluster, list[int]]:
    """The cluster without these cards, and which card each of its cards was. Raises SpecError if none is left."""
    ids = [device.id for device in cluster.devices if device.id not in lost]
    if not ids:
        raise SpecError("all cards are lost", key="lost")
    number = {old: new for new, old in enumerate(ids)}
    devices = tuple(cluster.devices[old].model_copy(update={"id": new}) for new, old in enumerate(ids))
    nodes = {device.node for device in devices}
    bridges = tuple(
        DevicePair(first=number[pair.first], second=number[pair.second], link=pair.link)
        for pair in cluster.bridges
        if pair.first in number and pair.second in number
    )
    left = Cluster(
        name=cluster.name,
        gpus=cluster.gpus,
        devices=devices,
        inside={node: link for node, link in cluster.inside.items() if node in nodes},
        bridges=bridges,
        between=tuple(pair for pair in cluster.between if pair.source in nodes and pair.target in nodes),
        description=cluster.description,
    )
    return left, ids


def renumbered(plan: Plan, ids: list[int]) -> Plan:
    """The plan with card ``i`` written as ``ids[i]``."""
    replicas = tuple(
        one.model_copy(
            update={
                "stages": tuple(
                    stage.model_copy(update={"devices": tuple(ids[card] for card in stage.devices)})
                    for stage in one.stages
                )
            }
        )
        for one in plan.replicas
    )
    return plan.model_copy(update={"replicas": replicas})


def reloaded(old: Plan, new: Plan) -> int:
    """Cards of ``new`` that hold other layers, or another share of them, than under ``old``."""
    held, wanted = weights_by_card(old), weights_by_card(new)
    return sum(held.get(card) != weights for card, weights in wanted.items())


def weights_by_card(plan: Plan) -> dict[int, tuple[int, int, int, int]]:
    """(first layer, layers, TP degree, rank) by card: what decides the weights it holds."""
    return {
        card: (first, stage.num_layers, stage.tp, rank)
        for replica in plan.replicas
        for stage, first in zip(replica.stages, replica.first_layers, strict=True)
        for rank, card in enumerate(stage.devices)
    }
