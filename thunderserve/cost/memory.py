"""What fits: weights, activations and overheads of each card of a replica, and the KV blocks that are left."""

from __future__ import annotations

from dataclasses import dataclass

from thunderserve.cost.shapes import StageShape, stage_shapes
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica


@dataclass(frozen=True)
class MemoryRules:
    """How an engine divides a card's memory."""

    utilisation: float = 0.9
    """Share of a card the engine may use (vLLM's ``gpu_memory_utilization``)."""
    framework_bytes: float = 0.6e9
    """CUDA context and libraries of one process."""
    collective_bytes: float = 0.36e9
    """Buffers of the collectives of a stage of several cards (NCCL; 342 MiB for two cards in aiconfigurator's systems)."""
    fragmentation: float = 0.02
    """Share of the usable memory that the allocator cannot hand out."""


@dataclass(frozen=True)
class CardMemory:
    """One card of one stage, in bytes."""

    device: int
    usable_bytes: float
    weight_bytes: float
    activation_bytes: float
    overhead_bytes: float
    kv_bytes_per_token: float

    @property
    def kv_bytes(self) -> float:
        """Left for KV; negative when the rest does not fit."""
        return self.usable_bytes - self.weight_bytes - self.activation_bytes - self.overhead_bytes


def weight_bytes(shape: StageShape) -> float:
    """Weights of one card of a stage: its share of the layers, of the embedding (first stage) and of the head (last)."""
    model = shape.model
    kv_parameters = 2 * model.hidden_size * model.num_kv_heads * model.head_dim
    replicated = kv_parameters * (shape.kv_heads / model.num_kv_heads - 1 / shape.tp)
    parameters = shape.num_layers * (model.layer_parameters / shape.tp + replicated)
    if shape.first:
        parameters += model.embedding_parameters / shape.tp
    if shape.last:
        tied_copy = model.vocab_size * model.hidden_size if model.tied_embeddings and not shape.first else 0
        parameters += (model.head_parameters + tied_copy) / shape.tp
    return parameters * model.dtype_bytes


def activation_bytes(shape: StageShape, max_tokens: int, max_sequences: int) -> float:
    """Peak of what a step holds besides weights and KV: hidden states, the widest intermediate, and 32-bit logits."""
    model = shape.model
    attention = (shape.heads + 2 * shape.kv_heads) * model.head_dim
    mlp = model.mlp_matrices * model.experts_per_token * model.intermediate_size / shape.tp
    values = max_tokens * (3 * model.hidden_size + max(attention, mlp))
    logits = max_sequences * model.vocab_size * 4 * 2 if shape.last else 0
    return values * model.dtype_bytes + logits


def replica_memory(
    model: ModelSpec, replica: Replica, cluster: Cluster, rules: MemoryRules = MemoryRules()
) -> list[CardMemory]:
    """Each card of a replica, stage by stage."""
    batching = replica.batching
    cards = []
    for shape, stage in zip(stage_shapes(model, replica), replica.stages, strict=True):
        weights = weight_bytes(shape)
        activations = activation_bytes(shape, batching.max_batched_tokens, batching.max_sequences)
        kv_bytes = shape.num_layers * shape.kv_bytes
        for device in stage.devices:
            usable = cluster.gpu(device).memory_bytes * rules.utilisation
            overhead = rules.framework_bytes + rules.fragmentation * usable
            overhead += rules.collective_bytes if stage.tp > 1 else 0.0
            cards.append(CardMemory(device, usable, weights, activations, overhead, kv_bytes))
    return cards


def kv_blocks(model: ModelSpec, replica: Replica, cluster: Cluster, rules: MemoryRules = MemoryRules()) -> int:
    """KV blocks that fit on every card of the replica: the least any card has; 0 if the model does not fit."""
    tokens = min(card.kv_bytes / card.kv_bytes_per_token for card in replica_memory(model, replica, cluster, rules))
    return max(int(tokens // replica.batching.block_tokens), 0)


def check_memory(model: ModelSpec, replica: Replica, cluster: Cluster, rules: MemoryRules = MemoryRules()) -> None:
    """Raise ValueError, naming the card and what it lacks, if the replica cannot hold one KV block."""
    for card in replica_memory(model, replica, cluster, rules):
        short = replica.batching.block_tokens * card.kv_bytes_per_token - card.kv_bytes
        if short > 0:
            raise ValueError(
                f"device {card.device} ({cluster.devices[card.device].gpu}) is {short / 1e9:.1f} GB short for {model.name}: "
                f"{card.usable_bytes / 1e9:.1f} GB usable, {card.weight_bytes / 1e9:.1f} GB weights, "
                f"{(card.activation_bytes + card.overhead_bytes) / 1e9:.1f} GB activations and overheads"
            )
