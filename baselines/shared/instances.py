"""Instances of one GPU type: tensor parallel inside a node, pipeline stages over neighbouring groups, even layers.

What an operator does by hand on identical cards, and what DistServe calls an instance: ``intra_op`` (TP) times
``inter_op`` (PP) cards. Mixed instances are the business of other planners.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from thunderserve.cost.memory import kv_blocks
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

TP_DEGREES = (1, 2, 4, 8)
PP_DEGREES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Shape:
    """TP and PP degrees of an instance of one GPU type."""

    gpu: str
    tp: int
    pp: int

    @property
    def num_gpus(self) -> int:
        """Cards of one instance."""
        return self.tp * self.pp


def groups(cluster: Cluster, gpu: str) -> list[tuple[int, ...]]:
    """The cards of a type, node by node, those joined by a bridge next to each other."""
    by_node: dict[str, list[int]] = defaultdict(list)
    for device in cluster.devices:
        if device.gpu == gpu:
            by_node[device.node].append(device.id)
    partner = {a: b for bridge in cluster.bridges for a, b in ((bridge.first, bridge.second),)}
    return [_bridged_first(devices, partner) for devices in by_node.values()]


def _bridged_first(devices: list[int], partner: dict[int, int]) -> tuple[int, ...]:
    order: list[int] = []
    for device in devices:
        if device not in order:
            order += [device]
            other = partner.get(device)
            if other in devices and other is not None and other not in order:
                order += [other]
    return tuple(order)


def even_layers(num_layers: int, stages: int) -> tuple[int, ...]:
    """As equal as can be; the first stages take one more where it does not divide."""
    each, extra = divmod(num_layers, stages)
    return tuple(each + (1 if index < extra else 0) for index in range(stages))


def pack(cluster: Cluster, shape: Shape) -> list[tuple[tuple[int, ...], ...]]:
    """As many instances as the cards of the type make: each a tuple of stages, each stage a tuple of cards of one node.

    Pipelines are cut inside a node first; what is left over is joined across nodes, nearest (fastest link) first.
    """
    inside: list[tuple[tuple[int, ...], ...]] = []
    left: list[tuple[int, ...]] = []
    for devices in groups(cluster, shape.gpu):
        cut = [devices[i : i + shape.tp] for i in range(0, len(devices) - shape.tp + 1, shape.tp)]
        whole = len(cut) // shape.pp * shape.pp
        inside += [tuple(cut[i : i + shape.pp]) for i in range(0, whole, shape.pp)]
        left += cut[whole:]
    return inside + list(_across(cluster, left, shape.pp))


def place(cluster: Cluster, wanted: list[Shape]) -> list[tuple[tuple[int, ...], ...]] | None:
    """Cards for every instance of ``wanted`` (one GPU type), in its order; None if they do not all fit.

    Wide instances choose first; each takes the fullest node that holds it whole, or else strings its stages over nodes.
    """
    free = [list(devices) for devices in groups(cluster, wanted[0].gpu)]
    placed: dict[int, tuple[tuple[int, ...], ...]] = {}
    for index in sorted(range(len(wanted)), key=lambda i: (-wanted[i].tp, -wanted[i].pp, i)):
        stages = _take(free, wanted[index])
        if stages is None:
            return None
        placed[index] = stages
    return [placed[index] for index in range(len(wanted))]


def _take(free: list[list[int]], shape: Shape) -> tuple[tuple[int, ...], ...] | None:
    """Take the cards of one instance out of ``free``."""
    whole = [node for node in free if len(node) >= shape.num_gpus]
    hosts = [min(whole, key=len)] if whole else sorted(free, key=len, reverse=True)
    stages: list[tuple[int, ...]] = []
    for node in hosts:
        while len(node) >= shape.tp and len(stages) < shape.pp:
            stages.append(tuple(node[: shape.tp]))
            del node[: shape.tp]
    return tuple(stages) if len(stages) == shape.pp else None


def _across(cluster: Cluster, left: list[tuple[int, ...]], pp: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    left = list(left)
    while len(left) >= pp:
        pipeline = [left.pop(0)]
        while len(pipeline) < pp:
            tail = pipeline[-1][0]
            best = max(left, key=lambda group: cluster.link(tail, group[0]).bytes_per_s)
            left.remove(best)
            pipeline.append(best)
        yield tuple(pipeline)


def replica(model: ModelSpec, stages: tuple[tuple[int, ...], ...], phase: Phase, batching: Batching) -> Replica:
    """The replica of one packed instance, with even layers."""
    layers = even_layers(model.num_layers, len(stages))
    made = tuple(Stage(devices=devices, num_layers=count) for devices, count in zip(stages, layers, strict=True))
    return Replica(stages=made, phase=phase, batching=batching)


def shapes(cluster: Cluster, model: ModelSpec, gpu: str, batching: Batching, context: int) -> list[Shape]:
    """Every shape of a type that can be cut from the cluster and holds the model and ``context`` tokens of KV.

    TP must divide the heads, as the engines demand.
    """
    found = []
    largest = max((len(devices) for devices in groups(cluster, gpu)), default=0)
    total = sum(len(devices) for devices in groups(cluster, gpu))
    for tp in TP_DEGREES:
        for pp in PP_DEGREES:
            if model.num_heads % tp or tp > largest or tp * pp > total or pp > model.num_layers:
                continue
            shape = Shape(gpu, tp, pp)
            packed = pack(cluster, shape)
            if packed and _holds(cluster, model, packed[0], batching, context):
                found.append(shape)
    return found


def _holds(
    cluster: Cluster, model: ModelSpec, stages: tuple[tuple[int, ...], ...], batching: Batching, context: int
) -> bool:
    one = replica(model, stages, Phase.BOTH, batching)
    return kv_blocks(model, one, cluster) * batching.block_tokens >= context
