"""From counts to cards: the plan that a solution stands for."""

from __future__ import annotations

from collections.abc import Sequence

from thunderserve.scheduler.configuration import Configuration
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.inventory import Inventory
from thunderserve.spec.kv import RAW
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage


def plan_of(
    system: str,
    inventory: Inventory,
    estimate: Estimate,
    batching: dict[Phase, Batching],
    notes: dict[str, str] | None = None,
) -> Plan:
    """The plan of an estimate; groups that no flow reaches are left out."""
    reached = sorted({group for arc in estimate.arcs for group in (arc.prefill, arc.decode)})
    chosen = [estimate.configurations[group] for group in reached]
    replicas = tuple(
        Replica(
            stages=stages,
            phase=one.phase,
            batching=batching[one.phase].model_copy(update={"max_sequences": one.max_sequences}),
        )
        for one, stages in zip(chosen, deal(inventory, chosen), strict=True)
    )
    return Plan(system=system, replicas=replicas, flows=flows_of(estimate, reached), notes=notes or {})


def flows_of(estimate: Estimate, reached: Sequence[int]) -> tuple[Flow, ...]:
    """The flows of an estimate, between groups numbered as they stand in ``reached``."""
    number = {group: place for place, group in enumerate(reached)}
    return tuple(
        Flow(
            prefill=number[arc.prefill],
            decode=number[arc.decode],
            share=arc.share,
            codec=arc.passage.codec if arc.passage else RAW,
        )
        for arc in estimate.arcs
    )


def deal(inventory: Inventory, chosen: Sequence[Configuration]) -> list[tuple[Stage, ...]]:
    """Hand out cards: within a kind the widest stages first, so that those of an even degree get whole bridged pairs."""
    left = [list(kind.devices) for kind in inventory.kinds]
    wanted = [(stage.tp, group, place) for group, one in enumerate(chosen) for place, stage in enumerate(one.stages)]
    dealt: dict[tuple[int, int], tuple[int, ...]] = {}
    for tp, group, place in sorted(wanted, key=lambda want: (-want[0], want[1], want[2])):
        kind = chosen[group].stages[place].kind
        dealt[group, place] = tuple(left[kind][:tp])
        del left[kind][:tp]
    return [
        tuple(Stage(devices=dealt[group, place], num_layers=stage.num_layers) for place, stage in enumerate(one.stages))
        for group, one in enumerate(chosen)
    ]
