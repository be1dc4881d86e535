"""The kernels of one stage as shapes: what one of its cards computes, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica

Kind = Literal["norm", "rotary", "activation", "copy_add"]


class SmallKernel(NamedTuple):
    """A kernel without a matrix: its name, its kind, and the values it reads and writes a token."""

    operator: str
    kind: Kind
    values: float


@dataclass(frozen=True)
class StageShape:
    """One tensor-parallel shard of one stage."""

    model: ModelSpec
    tp: int
    num_layers: int
    first: bool
    """Holds the input embedding."""
    last: bool
    """Holds the LM head."""

    @property
    def heads(self) -> float:
        """Query heads of this card."""
        return self.model.num_heads / self.tp

    @property
    def kv_heads(self) -> float:
        """KV heads of this card; never less than one, for heads are replicated when there are fewer than cards."""
        return max(self.model.num_kv_heads / self.tp, 1.0)

    @property
    def kv_bytes(self) -> float:
        """K and V of one token in one layer on this card."""
        return 2 * self.kv_heads * self.model.head_dim * self.model.dtype_bytes

    @property
    def attention_values(self) -> float:
        """Values a new token moves in attention of one layer: Q and output, K and V once, and their copy into the cache."""
        return (2 * self.heads + 6 * self.kv_heads) * self.model.head_dim

    def attention_matmuls(self) -> dict[str, tuple[float, float]]:
        """(n, k) of the projections around attention."""
        wide, narrow = self.heads * self.model.head_dim, self.kv_heads * self.model.head_dim
        return {
            "attn_pre_proj": (wide + 2 * narrow, self.model.hidden_size),
            "attn_post_proj": (self.model.hidden_size, wide),
        }

    def mlp_matmuls(self) -> dict[str, tuple[float, float]]:
        """(n, k) of the products of one expert; gate and up are one product, as engines fuse them."""
        width = self.model.intermediate_size / self.tp
        return {
            "mlp_up_proj": ((self.model.mlp_matrices - 1) * width, self.model.hidden_size),
            "mlp_down_proj": (self.model.hidden_size, width),
        }

    def small_kernels(self) -> list[SmallKernel]:
        """The kernels of one layer that only move values."""
        hidden, width = self.model.hidden_size, self.model.intermediate_size / self.tp
        rotated = (self.heads + self.kv_heads) * self.model.head_dim
        kernels = [
            SmallKernel("input_layernorm", "norm", 2 * hidden),
            SmallKernel("post_attention_layernorm", "norm", 2 * hidden),
            SmallKernel("mlp_act", "activation", self.model.mlp_matrices * self.model.experts_per_token * width),
            SmallKernel("add", "copy_add", 2 * 3 * hidden),
        ]
        learned_positions = self.model.position_embeddings > 0
        return kernels if learned_positions else [*kernels, SmallKernel("attn_rope", "rotary", 2 * rotated)]


def stage_shapes(model: ModelSpec, replica: Replica) -> list[StageShape]:
    """The shards of a replica's stages, in order."""
    last = len(replica.stages) - 1
    return [
        StageShape(model, stage.tp, stage.num_layers, first=number == 0, last=number == last)
        for number, stage in enumerate(replica.stages)
    ]
