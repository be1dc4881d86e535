"""A cost source that remembers: planners ask for the same few kinds of replica again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from thunderserve.cost.codec import CodecSpeed
from thunderserve.cost.source import CostSource
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica

Wire = tuple[bool, float, float]
Kind = tuple[tuple[str, ...], tuple[Wire, ...]]


def wires(cluster: Cluster, senders: tuple[int, ...], receivers: tuple[int, ...]) -> tuple[Wire, ...]:
    """The different paths from one set of cards to another: (inside a node, latency, bandwidth), in order."""
    nodes, found = [device.node for device in cluster.devices], set()
    for a in senders:
        for b in receivers:
            if a != b:
                link = cluster.link(a, b)
                found.add((nodes[a] == nodes[b], link.latency_s, link.bytes_per_s))
    return tuple(sorted(found))


def kind(cluster: Cluster, devices: tuple[int, ...]) -> Kind:
    """What tells one tensor-parallel group from another: its cards' types and the paths between them."""
    return tuple(sorted(cluster.devices[i].gpu for i in devices)), wires(cluster, devices, devices)


@dataclass(frozen=True)
class Remembered:
    """A ``CostSource`` that asks ``source`` once for each kind of replica.

    Two replicas are of a kind when their stages have the same GPU types, layers and links: which cards of a type they use
    makes no difference to a step.
    """

    source: CostSource
    tables: dict[tuple[object, ...], StepTable] = field(default_factory=dict)

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
        """See ``CostSource``."""
        stages = tuple((kind(cluster, stage.devices), stage.num_layers) for stage in replica.stages)
        hops = tuple(wires(cluster, a.devices, b.devices) for a, b in pairwise(replica.stages))
        key = (model.name, stages, hops, max_tokens, max_sequences, max_context)
        if key not in self.tables:
            self.tables[key] = self.source.step_table(
                model,
                replica,
                cluster,
                max_tokens=max_tokens,
                max_sequences=max_sequences,
                max_context=max_context,
            )
        return self.tables[key]

    def codec_speed(self, codec: KvCodec) -> CodecSpeed:
        """See ``CostSource``."""
        return self.source.codec_speed(codec)
