"""Step times from data sheets: a roofline by operator, with efficiency as a function of size.

Per layer and card: the four products (or the experts a batch is expected to touch), attention of prefill chunks and of
decoding sequences, the small kernels, and two all-reduces; the LM head on the last stage; hops between stages; and what the
engine itself takes a step. A stage is as slow as the slowest of its cards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from thunderserve.cost import network
from thunderserve.cost.card import Card, Kernels
from thunderserve.cost.codec import SpeedOf, assumed
from thunderserve.cost.efficiency import efficiency_of
from thunderserve.cost.engine import DEFAULT_ENGINE, Engine
from thunderserve.cost.shapes import StageShape, stage_shapes
from thunderserve.cost.step_table import Floats, Ints, StepTable
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica, Stage

GRID_RATIO = 1.15
"""Neighbouring knots differ by this much: linear interpolation of ``1 / l`` is then off by at most 0.5 % (4 % at a kink)."""


@lru_cache(maxsize=256)
def geometric_knots(last: int, ratio: float = GRID_RATIO) -> tuple[int, ...]:
    """1, 2, 3 ... ``last``, every integer at first and then by ``ratio``; at least two knots."""
    last = max(last, 2)
    knots, knot = [], 1
    while knot < last:
        knots.append(knot)
        knot = max(knot + 1, round(knot * ratio))
    return (*knots, last)


@dataclass(frozen=True)
class Grid:
    """The knots of a step table."""

    tokens: Ints
    sequences: Ints
    batch: Ints
    context: Ints

    @classmethod
    def up_to(cls, max_tokens: int, max_sequences: int, max_context: int, *, affine: bool) -> Grid:
        """Two knots suffice for a decode attention that is affine in sequences and keys; else they double."""
        keys = max_sequences * max_context
        ends = ((1, max(max_sequences, 2)), (1, max(keys, 2)))
        batch, context = ends if affine else (geometric_knots(max_sequences, 2.0), geometric_knots(keys, 2.0))
        knots = (geometric_knots(max_tokens), geometric_knots(max_sequences), batch, context)
        return cls(*(np.array(each, dtype=np.int64) for each in knots))


@lru_cache(maxsize=256)
def roofline_card(gpu: Gpu) -> Card:
    """A card of this type with the efficiency curves of its name or family."""
    return Card(gpu, efficiency_of(gpu))


@dataclass(frozen=True)
class Roofline:
    """A ``CostSource`` that needs data sheets and efficiency curves, nothing measured on the cards at hand.

    ``kernels`` says how long a card's kernels take; ``measured.measured_card`` puts kernel tables in its place.
    """

    engine: Engine = DEFAULT_ENGINE
    kernels: Callable[[Gpu], Kernels] = roofline_card
    codec_speed: SpeedOf = assumed

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
        cards = [
            [self.kernels(gpu) for gpu in dict.fromkeys(cluster.gpu(device) for device in stage.devices)]
            for stage in replica.stages
        ]
        affine = all(card.decode_is_affine for stage in cards for card in stage)
        grid = Grid.up_to(max_tokens, max_sequences, max_context, affine=affine)
        shapes = stage_shapes(model, replica)
        stages = [
            self._stage(shape, stage, cluster, group, grid)
            for shape, stage, group in zip(shapes, replica.stages, cards, strict=True)
        ]
        fixed_s, token_s, logit_s, decode_s, pair_s, chunk_s = (np.stack(part) for part in zip(*stages, strict=True))
        hop_s, hop_s_per_token = hops(model, replica, cluster)
        return StepTable(
            fixed_s, grid.tokens, token_s, grid.sequences, logit_s, grid.batch, grid.context, decode_s,
            grid.tokens, pair_s, chunk_s, hop_s, hop_s_per_token,
        )  # fmt: skip

    def _stage(
        self, shape: StageShape, stage: Stage, cluster: Cluster, cards: list[Kernels], grid: Grid
    ) -> tuple[Floats, ...]:
        """(fixed, token, logit, decode, pair, chunk) seconds of one stage: the slowest of its cards, and the engine."""
        engine, tokens, sequences = self.engine, grid.tokens.astype(float), grid.sequences.astype(float)
        batch, keys = np.meshgrid(grid.batch.astype(float), grid.context.astype(float), indexing="ij")
        layers = np.max([card.layers_s(shape, tokens) for card in cards], axis=0)
        layers += self._reductions_s(shape, stage, cluster, cards, tokens)
        head = np.zeros_like(sequences)
        if shape.last:
            head = np.max([card.head_s(shape, sequences) for card in cards], axis=0) + sequences * engine.sequence_s
        chunk_s = max(card.chunk_s(shape) for card in cards) + (engine.prompt_s if shape.first else 0.0)
        return (
            np.array(engine.step_s + shape.num_layers * engine.layer_s + max(card.launch_s(shape) for card in cards)),
            np.maximum(layers, shape.num_layers * engine.launch_s),
            head,
            np.max([card.decode_s(shape, batch, keys) for card in cards], axis=0),
            np.max([card.pair_s(shape, tokens) for card in cards], axis=0),
            np.array(chunk_s),
        )

    def _reductions_s(
        self, shape: StageShape, stage: Stage, cluster: Cluster, cards: list[Kernels], tokens: Floats
    ) -> Floats:
        """Two all-reduces of the hidden states a layer: measured where the card knows its fabric, else by its links."""
        if stage.tp == 1:
            return np.zeros_like(tokens)
        sizes = tokens * shape.model.hidden_size * shape.model.dtype_bytes
        known = cards[0].all_reduce_s(stage.tp, sizes) if network.is_one_fabric(cluster, stage) else None
        once = known if known is not None else network.stage_all_reduce_s(cluster, stage, sizes)
        return 2 * shape.num_layers * (once + stage.tp * self.engine.collective_s)


def hops(model: ModelSpec, replica: Replica, cluster: Cluster) -> tuple[Floats, Floats]:
    """Latency, and seconds a token, of sending activations to the next stage; zero for the last."""
    pairs = zip(replica.stages, replica.stages[1:], strict=False)
    paths = [network.hop(cluster, model, sender, receiver) for sender, receiver in pairs]
    token_bytes = model.hidden_size * model.dtype_bytes
    latencies = [path.latency_s for path in paths] + [0.0]
    per_token = [token_bytes / path.bytes_per_s for path in paths] + [0.0]
    return np.array(latencies), np.array(per_token)
