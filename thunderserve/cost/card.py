"""One GPU's kernels: seconds of every operator of a tensor-parallel shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from thunderserve.cost import operators
from thunderserve.cost.efficiency import Efficiency, ElementwiseCurve
from thunderserve.cost.shapes import Kind, StageShape
from thunderserve.cost.step_table import Floats
from thunderserve.spec.gpu import Gpu


class Kernels(Protocol):
    """What a step table is built from. Arrays in, arrays of the same shape out; all layers of the stage together."""

    @property
    def decode_is_affine(self) -> bool:
        """Whether ``decode_s`` is affine in sequences and keys, so that two knots each describe it."""

    def layers_s(self, shape: StageShape, tokens: Floats) -> Floats:
        """What grows with the new tokens of a step: the layers, of attention what no key is needed for, the embedding."""

    def launch_s(self, shape: StageShape) -> float:
        """Attention of a step, whatever it holds: chunks and decoding sequences share its launch."""

    def head_s(self, shape: StageShape, sequences: Floats) -> Floats:
        """The LM head."""

    def pair_s(self, shape: StageShape, chunk: Floats) -> Floats:
        """A query-key pair of a prefill chunk of this length."""

    def chunk_s(self, shape: StageShape) -> float:
        """What attention of a prefill chunk adds whatever its length."""

    def decode_s(self, shape: StageShape, sequences: Floats, keys: Floats) -> Floats:
        """Decode attention."""

    def all_reduce_s(self, devices: int, num_bytes: Floats) -> Floats | None:
        """One all-reduce among cards of one node, where measured; None to go by the links."""


@dataclass(frozen=True)
class Card:
    """``Kernels`` from a data sheet and efficiency curves."""

    gpu: Gpu
    curves: Efficiency

    @property
    def decode_is_affine(self) -> bool:
        """It is: pages and keys."""
        return True

    def all_reduce_s(self, devices: int, num_bytes: Floats) -> Floats | None:  # noqa: ARG002 - goes by the links
        """Not known from a data sheet."""
        return None

    def matmul(
        self, m: Floats, shape: tuple[float | Floats, float | Floats], dtype_bytes: int, copies: Floats | float = 1.0
    ) -> Floats:
        """One product of ``m`` rows with a matrix of (n, k) = ``shape``."""
        n, k = shape
        gpu = self.gpu
        return operators.matmul_s(
            self.curves.matmul,
            gpu.flops,
            gpu.memory_bytes_per_s,
            m,
            n,
            k,
            dtype_bytes=dtype_bytes,
            weight_copies=copies,
        )

    def operator_s(self, shape: StageShape, tokens: Floats) -> dict[str, Floats]:
        """Seconds of each token-wise operator of one layer, by name, for ``tokens`` new tokens."""
        model = shape.model
        times = {name: self.matmul(tokens, size, model.dtype_bytes) for name, size in shape.attention_matmuls().items()}
        rows = tokens * model.experts_per_token
        copies = operators.experts_touched(model.num_experts, model.experts_per_token, tokens)
        for name, size in shape.mlp_matmuls().items():
            times[name] = self.matmul(rows, size, model.dtype_bytes, copies)
        for kernel in shape.small_kernels():
            times[kernel.operator] = self.small_s(kernel.kind, tokens * kernel.values * model.dtype_bytes)
        return times

    def small_s(self, kind: Kind, moved_bytes: Floats) -> Floats:
        """One kernel that reads and writes ``moved_bytes``."""
        curve: ElementwiseCurve = getattr(self.curves.elementwise, kind)
        return operators.elementwise_s(curve, self.gpu.memory_bytes_per_s, moved_bytes)

    def attention_tokens_s(self, shape: StageShape, tokens: Floats) -> Floats:
        """Of attention in one layer, what grows with the new tokens: the start of its rows, and the values they move."""
        curve, model = self.curves.prefill_attention, shape.model
        start = curve.start_keys * operators.row_s(curve, self.gpu.flops, model.head_dim) * shape.heads * tokens
        moved = tokens * shape.attention_values * model.dtype_bytes
        return start + operators.moved_by_attention_s(curve, self.gpu.memory_bytes_per_s, moved)

    def layers_s(self, shape: StageShape, tokens: Floats) -> Floats:
        """All layers of the stage, token-wise parts only, and the embedding on the first stage."""
        once = sum(self.operator_s(shape, tokens).values(), self.attention_tokens_s(shape, tokens))
        total = shape.num_layers * once
        if shape.first:
            moved = 2 * tokens * shape.model.hidden_size * shape.model.dtype_bytes
            total = total + self.small_s("copy_add", moved)
        return total

    def head_s(self, shape: StageShape, sequences: Floats) -> Floats:
        """The LM head."""
        vocabulary = shape.model.vocab_size / shape.tp
        return self.matmul(sequences, (vocabulary, shape.model.hidden_size), shape.model.dtype_bytes)

    def pair_s(self, shape: StageShape, chunk: Floats) -> Floats:
        """A query-key pair of a chunk, in all layers of the stage."""
        heads, head_dim = shape.heads, shape.model.head_dim
        once = operators.pair_s(self.curves.prefill_attention, self.gpu.flops, heads, head_dim, chunk)
        return shape.num_layers * once

    def launch_s(self, shape: StageShape) -> float:
        """The shorter of the two latencies, in all layers: whichever phases a step holds, it takes that long."""
        curves = self.curves
        return shape.num_layers * min(curves.prefill_attention.latency_s, curves.decode_attention.latency_s)

    def chunk_s(self, shape: StageShape) -> float:
        """What a chunk adds whatever its length, in all layers of the stage."""
        curve = self.curves.prefill_attention
        empty = operators.rows(curve, shape.heads, 0.0) * curve.start_keys
        once = curve.latency_s + empty * operators.row_s(curve, self.gpu.flops, float(shape.model.head_dim))
        return shape.num_layers * once - self.launch_s(shape)

    def decode_s(self, shape: StageShape, sequences: Floats, keys: Floats) -> Floats:
        """Decode attention in all layers of the stage, beyond ``launch_s`` and what ``layers_s`` counts by the token."""
        curve, bandwidth = self.curves.decode_attention, self.gpu.memory_bytes_per_s
        once = operators.decode_attention_s(curve, bandwidth, shape.kv_bytes, sequences, keys)
        return shape.num_layers * once - self.launch_s(shape)
