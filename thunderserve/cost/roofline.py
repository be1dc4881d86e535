"""Step times from data sheets: a roofline by operator, with efficiency as a function of size.

Per layer and card: the four products (or the experts a batch is expected to touch), attention of prefill chunks and of
decoding sequences, the small kernels, and two all-reduces; the LM head on the last stage; hops between stages; and what the
engine itself takes a step. A stage is as slow as the slowest of its cards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost import network, operators
from thunderserve.cost.efficiency import Efficiency, efficiency_of
from thunderserve.cost.engine import DEFAULT_ENGINE, Engine
from thunderserve.cost.shapes import StageShape, stage_shapes
from thunderserve.cost.step_table import Floats, Ints, StepTable
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica, Stage

GRID_RATIO = 1.15
"""Neighbouring knots differ by this much: linear interpolation of ``1 / l`` is then off by at most 0.5 %."""


@lru_cache(maxsize=256)
def geometric_knots(last: int) -> tuple[int, ...]:
    """1, 2, 3 ... ``last``, every integer at first and then by ``GRID_RATIO``; at least two knots."""
    last = max(last, 2)
    knots, knot = [], 1
    while knot < last:
        knots.append(knot)
        knot = max(knot + 1, round(knot * GRID_RATIO))
    return (*knots, last)


def _grid(last: int) -> Ints:
    return np.array(geometric_knots(last), dtype=np.int64)


@dataclass(frozen=True)
class Card:
    """One GPU with its efficiency curves: seconds of each operator of a shard."""

    gpu: Gpu
    curves: Efficiency

    def matmul(self, m: Floats, shape: tuple[float, float], dtype_bytes: int, copies: Floats | float = 1.0) -> Floats:
        """One product of ``m`` rows with a matrix of (n, k) = ``shape``."""
        n, k = shape
        gpu = self.gpu
        return operators.matmul_s(
            self.curves.matmul, gpu.flops, gpu.memory_bytes_per_s, m, n, k, dtype_bytes=dtype_bytes, weight_copies=copies
        )

    def operator_s(self, shape: StageShape, tokens: Floats) -> dict[str, Floats]:
        """Seconds of each token-wise operator of one layer, by name, for ``tokens`` new tokens."""
        model = shape.model
        times = {
            name: self.matmul(tokens, size, model.dtype_bytes) for name, size in shape.attention_matmuls().items()
        }
        rows = tokens * model.experts_per_token
        copies = operators.experts_touched(model.num_experts, model.experts_per_token, tokens)
        for name, size in shape.mlp_matmuls().items():
            times[name] = self.matmul(rows, size, model.dtype_bytes, copies)
        for name, values in shape.elementwise_values().items():
            moved = tokens * values * model.dtype_bytes
            times[name] = operators.elementwise_s(self.curves.elementwise, self.gpu.memory_bytes_per_s, moved)
        return times

    def layers_s(self, shape: StageShape, tokens: Floats) -> Floats:
        """All layers of the stage, token-wise operators only, and the embedding on the first stage."""
        total = shape.num_layers * sum(self.operator_s(shape, tokens).values(), np.zeros_like(tokens))
        if shape.first:
            moved = 2 * tokens * shape.model.hidden_size * shape.model.dtype_bytes
            total = total + operators.elementwise_s(self.curves.elementwise, self.gpu.memory_bytes_per_s, moved)
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

    def chunk_s(self, shape: StageShape) -> float:
        """What a chunk costs whatever its length, in all layers of the stage."""
        return shape.num_layers * self.curves.prefill_attention.latency_s

    def decode_s(self, shape: StageShape, sequences: Floats, keys: Floats) -> Floats:
        """Decode attention in all layers of the stage."""
        curve, bandwidth = self.curves.decode_attention, self.gpu.memory_bytes_per_s
        once = operators.decode_attention_s(curve, bandwidth, shape.kv_bytes, sequences, keys)
        return shape.num_layers * once


@dataclass(frozen=True)
class Roofline:
    """A ``CostSource`` that needs data sheets and efficiency curves, nothing measured on the cards at hand."""

    engine: Engine = DEFAULT_ENGINE

    def step_table(
        self,
        model: ModelSpec,
        replica: Replica,
        cluster: Cluster,
        *,
        max_tokens: int,
        max_sequences: int,
        max_context: int,
    ) -> StepTable:
        """See ``CostSource``. Raises SpecError for a GPU whose family has no efficiency curves."""
        tokens, sequences = _grid(max_tokens), _grid(max_sequences)
        batch = np.array([1, max(max_sequences, 2)], dtype=np.int64)
        context = np.array([1, max(max_sequences * max_context, 2)], dtype=np.int64)
        stages = [
            self._stage(shape, stage, cluster, tokens, sequences, batch, context)
            for shape, stage in zip(stage_shapes(model, replica), replica.stages, strict=True)
        ]
        hop_s, hop_s_per_token = hops(model, replica, cluster)
        columns = [np.stack(column) for column in zip(*stages, strict=True)]
        fixed_s, token_s, logit_s, decode_s, pair_s, chunk_s = columns
        return StepTable(
            fixed_s, tokens, token_s, sequences, logit_s, batch, context, decode_s, tokens, pair_s, chunk_s,
            hop_s, hop_s_per_token,
        )  # fmt: skip

    def _stage(
        self,
        shape: StageShape,
        stage: Stage,
        cluster: Cluster,
        tokens: Ints,
        sequences: Ints,
        batch: Ints,
        context: Ints,
    ) -> tuple[NDArray[np.float64], ...]:
        """(fixed, token, logit, decode, pair, chunk) seconds of one stage: the slowest of its cards, and the engine."""
        n, o, l = tokens.astype(float), sequences.astype(float), tokens.astype(float)
        b, c = np.meshgrid(batch.astype(float), context.astype(float), indexing="ij")
        cards = [Card(gpu, efficiency_of(gpu)) for gpu in dict.fromkeys(cluster.gpu(i) for i in stage.devices)]
        reduced = reductions_s(shape, stage, cluster, n)
        head = [card.head_s(shape, o) if shape.last else np.zeros_like(o) for card in cards]
        sampling = o * self.engine.sequence_s if shape.last else 0.0
        return (
            np.array(self.engine.step_s + shape.num_layers * self.engine.layer_s),
            np.max([card.layers_s(shape, n) for card in cards], axis=0) + reduced,
            np.max(head, axis=0) + sampling,
            np.max([card.decode_s(shape, b, c) for card in cards], axis=0),
            np.max([card.pair_s(shape, l) for card in cards], axis=0),
            np.array(max(card.chunk_s(shape) for card in cards)),
        )


def reductions_s(shape: StageShape, stage: Stage, cluster: Cluster, tokens: Floats) -> Floats:
    """Two all-reduces of the hidden states a layer."""
    if stage.tp == 1:
        return np.zeros_like(tokens)
    sizes = tokens * shape.model.hidden_size * shape.model.dtype_bytes
    once = np.array([network.stage_all_reduce_s(cluster, stage, float(size)) for size in sizes])
    return 2 * shape.num_layers * once


def hops(model: ModelSpec, replica: Replica, cluster: Cluster) -> tuple[Floats, Floats]:
    """Latency, and seconds a token, of sending activations to the next stage; zero for the last."""
    pairs = zip(replica.stages, replica.stages[1:], strict=False)
    paths = [network.hop(cluster, model, sender, receiver) for sender, receiver in pairs]
    token_bytes = model.hidden_size * model.dtype_bytes
    latencies = [path.latency_s for path in paths] + [0.0]
    per_token = [token_bytes / path.bytes_per_s for path in paths] + [0.0]
    return np.array(latencies), np.array(per_token)
