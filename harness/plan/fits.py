"""Whether a plan can run at all: which card of which replica is short of memory, and by how many bytes."""

from __future__ import annotations

from thunderserve.cost.memory import CardMemory, replica_memory
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Plan


def refuse_what_cannot_run(plan: Plan, cluster: Cluster, model: ModelSpec) -> None:
    """Raise SpecError, naming the card that is shortest and what it lacks, for a plan that ``cluster`` cannot hold."""
    if all(device < len(cluster.devices) for replica in plan.replicas for device in replica.devices):
        found = [(_short(card, block), number, card) for number, block, card in _cards(plan, cluster, model)]
        short, number, card = max(found, key=lambda item: item[0])
        if short > 0:
            raise SpecError(_words(short, number, card, cluster, model), key="plan")
    try:
        plan.check(cluster, model)
    except ValueError as error:
        raise SpecError(str(error), key="plan") from None


def _cards(plan: Plan, cluster: Cluster, model: ModelSpec) -> list[tuple[int, int, CardMemory]]:
    """(replica, tokens of a block, card)."""
    return [
        (number, replica.batching.block_tokens, card)
        for number, replica in enumerate(plan.replicas)
        for card in replica_memory(model, replica, cluster)
    ]


def _short(card: CardMemory, block_tokens: int) -> float:
    """Bytes that are missing for one block of KV; negative if it fits."""
    return block_tokens * card.kv_bytes_per_token - card.kv_bytes


def _words(short: float, number: int, card: CardMemory, cluster: Cluster, model: ModelSpec) -> str:
    return (
        f"replica {number}: device {card.device} ({cluster.devices[card.device].gpu}) is {round(short):,} bytes short for "
        f"{model.name}: {card.usable_bytes / 1e9:.1f} GB usable, {card.weight_bytes / 1e9:.1f} GB of weights, "
        f"{(card.activation_bytes + card.overhead_bytes) / 1e9:.1f} GB of activations and overheads, and one block of KV"
    )
