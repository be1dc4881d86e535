"""Bytes by layer: the memory of a stage is affine in its layers, too (the rules are those of ``cost.memory``)."""

from __future__ import annotations

from typing import NamedTuple

from thunderserve.cost.memory import MemoryRules, activation_bytes, weight_bytes
from thunderserve.cost.shapes import StageShape
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching


class StageMemory(NamedTuple):
    """One card of a stage, in bytes. It can hold ``l`` layers and ``t`` tokens if

    ``usable >= once + first? + last? + l * (layer + t * kv)``.
    """

    usable: float
    once: float
    layer: float
    first: float
    last: float
    both: float
    """Of a stage that is first and last (a tied embedding is then held once)."""
    kv: float
    """KV of one token in one layer."""

    def fixed(self, *, first: bool, last: bool) -> float:
        """What a stage holds whatever its layers."""
        extra = self.both if first and last else self.first * first + self.last * last
        return self.once + extra


def stage_memory(model: ModelSpec, gpu: Gpu, tp: int, batching: Batching, rules: MemoryRules) -> StageMemory:
    """What ``cost.memory.replica_memory`` says of such a card, by layer."""

    def weights(layers: int, *, first: bool = False, last: bool = False) -> float:
        return weight_bytes(StageShape(model, tp, layers, first=first, last=last))

    def activations(*, last: bool) -> float:
        shape = StageShape(model, tp, 1, first=False, last=last)
        return activation_bytes(shape, batching.max_batched_tokens, batching.max_sequences)

    usable = gpu.memory_bytes * rules.utilisation
    overhead = rules.framework_bytes + rules.fragmentation * usable + (rules.collective_bytes if tp > 1 else 0.0)
    layer = weights(2) - weights(1)
    logits = activations(last=True) - activations(last=False)
    return StageMemory(
        usable=usable,
        once=overhead + activations(last=False) + weights(1) - layer,
        layer=layer,
        first=weights(1, first=True) - weights(1),
        last=weights(1, last=True) - weights(1) + logits,
        both=weights(1, first=True, last=True) - weights(1) + logits,
        kv=StageShape(model, tp, 1, first=False, last=False).kv_bytes,
    )
