"""Step times by layer: what a stage costs is affine in its layers, so a few probes price every stage of a search.

A cost source is asked once for each (breed of cards, TP degree): a pipeline of equal stages with 1, 1, 2 and 1 layers tells
the seconds of a layer, of a step, of the embedding and of the LM head. Step tables of any replica are then put together
from these rows, in microseconds, and agree with what the source itself would say (tests hold that for the roofline).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from thunderserve.cost.source import CostSource
from thunderserve.cost.step_table import Floats, StepTable
from thunderserve.scheduler.inventory import Breed
from thunderserve.spec.cluster import Cluster, Device, DevicePair, NodePair
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

_COPIES = 4


class Bounds(NamedTuple):
    """Where the knots of step tables end (see ``CostSource.step_table``)."""

    max_tokens: int
    max_sequences: int
    max_context: int


class Part(NamedTuple):
    """One row of a step table, without its layer count: (fixed, token (K,), logit (M,), decode (Q, L), pair (P,), chunk)."""

    fixed: Floats
    token: Floats
    logit: Floats
    decode: Floats
    pair: Floats
    chunk: Floats

    @staticmethod
    def row(table: StepTable, stage: int) -> Part:
        """Stage ``stage`` of a table."""
        columns = (table.fixed_s, table.token_s, table.logit_s, table.decode_s, table.pair_s, table.chunk_s)
        return Part(*(np.asarray(column[stage]) for column in columns))


class LayerCosts(NamedTuple):
    """A stage of ``l`` layers takes ``once + l * layer``, plus ``first`` with the embedding, plus ``last`` with the LM head."""

    layer: Part
    once: Part
    first: Part
    last: Part
    knots: StepTable
    """Any table of the source, for its knots."""

    def stage(self, num_layers: int, *, first: bool, last: bool) -> Part:
        """The row of one stage."""
        parts = [self.first] * first + [self.last] * last
        return Part(
            *(
                once + num_layers * layer + sum(extra)
                for once, layer, *extra in zip(self.once, self.layer, *parts, strict=True)
            )
        )


def put_together(
    rows: Sequence[Part], knots: StepTable, hop_s: Sequence[float], hop_s_per_token: Sequence[float]
) -> StepTable:
    """The step table of a replica from the rows of its stages; hops are those to the next stage, zero for the last."""
    fixed, token, logit, decode, pair, chunk = (np.stack(column) for column in zip(*rows, strict=True))
    return StepTable(
        fixed, knots.token_knots, token, knots.logit_knots, logit, knots.batch_knots, knots.context_knots, decode,
        knots.chunk_knots, pair, chunk, np.asarray(hop_s, dtype=np.float64), np.asarray(hop_s_per_token, dtype=np.float64),
    )  # fmt: skip


@dataclass
class LayerCostBook:
    """Probes a cost source when a breed and degree are first asked for, and remembers."""

    costs: CostSource
    model: ModelSpec
    bounds: Bounds
    _known: dict[tuple[Breed, int], LayerCosts] = field(default_factory=dict)

    def __call__(self, breed: Breed, tp: int) -> LayerCosts:
        """Raises ValueError, as the source does, for cards it knows nothing of."""
        found = self._known.get((breed, tp))
        if found is None:
            found = self._known[breed, tp] = self._probe(breed, tp)
        return found

    def _probe(self, breed: Breed, tp: int) -> LayerCosts:
        cluster, replica = probe(breed, tp)
        table = self.costs.step_table(self.model, replica, cluster, **self.bounds._asdict())
        first, one, two, last = (Part.row(table, stage) for stage in range(_COPIES))
        layer = Part(*(b - a for a, b in zip(one, two, strict=True)))
        once = Part(*(a - each for a, each in zip(one, layer, strict=True)))
        extra_first = Part(*(f - a for f, a in zip(first, one, strict=True)))
        extra_last = Part(*(e - a for e, a in zip(last, one, strict=True)))
        return LayerCosts(layer, once, extra_first, extra_last, table)


def probe(breed: Breed, tp: int) -> tuple[Cluster, Replica]:
    """Four nodes with ``tp`` cards of the breed each, and a pipeline over them of 1, 1, 2 and 1 layers."""
    nodes = [f"probe-{copy}" for copy in range(_COPIES)]
    name = breed.gpu.name
    devices = [Device(id=i, gpu=name, node=nodes[i // tp]) for i in range(_COPIES * tp)]
    pairs = [(i, i + 1) for i in range(0, _COPIES * tp - 1, 2)] if tp > 1 else []
    bridges = [DevicePair(first=a, second=b, link=breed.bridge) for a, b in pairs if breed.bridge is not None]
    cluster = Cluster(
        name=f"probe-{name}",
        gpus={name: breed.gpu},
        devices=tuple(devices),
        inside=dict.fromkeys(nodes, breed.inside),
        bridges=tuple(bridges),
        between=tuple(NodePair(source=a, target=b, link=breed.inside) for a in nodes for b in nodes if a != b),
    )
    layers = (1, 1, 2, 1)
    stages = tuple(
        Stage(devices=tuple(range(copy * tp, (copy + 1) * tp)), num_layers=count) for copy, count in enumerate(layers)
    )
    return cluster, Replica(stages=stages, phase=Phase.BOTH, batching=Batching(policy="chunked"))
