"""Seconds on the wire: all-reduces inside a stage, hops between stages, KV from a prefill to a decode replica.

Every message is alpha-beta, ``latency + bytes / bandwidth``, over the real links of the cards that take part. A link
carries a share of its rated bandwidth that depends on its kind (``LINK_SHARES``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thunderserve.cost.codec import DEFAULT_SPEED, CodecSpeed, codec_s_per_token
from thunderserve.cost.step_table import Floats
from thunderserve.spec.cluster import Cluster, Link
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica, Stage

LinkKind = Literal["nvlink", "pcie", "network"]

COLLECTIVE_SHARES: dict[LinkKind, float] = {"nvlink": 0.42, "pcie": 0.25, "network": 1.0}
"""Share of a link's rated bandwidth that a collective reaches; ``docs/cost.md`` has the fit and its spread.

nvlink: between aiconfigurator's and Vidur's A100 and H100 all-reduces. pcie: cards without peer access (L40S, V100-PCIe, A40,
L4 pairs) reach 0.12 to 0.35 of a x16 slot. network: clusters state what a transfer measures, not a line rate.
"""
COLLECTIVE_LATENCY_SHARES: dict[LinkKind, float] = {"nvlink": 0.6, "pcie": 1.0, "network": 1.0}
"""Share of a link's latency that a collective pays a stage: over NVLink cards write into each other's memory without asking.

Of the 8 us in the catalogue that leaves 4.8 us; vLLM's all-reduce of a few tokens takes 4.2 to 5.8 us on A100 and H100.
"""
POINT_TO_POINT_SHARES: dict[LinkKind, float] = {"nvlink": 0.8, "pcie": 0.5, "network": 1.0}
"""The same for one message between two cards."""


@dataclass(frozen=True)
class Route:
    """An idle path: ``latency_s + bytes / bytes_per_s``, with the share of its kind already taken."""

    latency_s: float
    bytes_per_s: float

    def seconds(self, num_bytes: float) -> float:
        """One message."""
        return self.latency_s + num_bytes / self.bytes_per_s


def link_kind(cluster: Cluster, source: int, target: int) -> LinkKind:
    """What joins two cards: NVLink (a bridge or a switch), PCIe, or the network between nodes."""
    if cluster.devices[source].node != cluster.devices[target].node:
        return "network"
    bridged = any({bridge.first, bridge.second} == {source, target} for bridge in cluster.bridges)
    switched = cluster.gpu(source).fabric == "nvlink" and cluster.gpu(target).fabric == "nvlink"
    return "nvlink" if bridged or switched else "pcie"


def route(cluster: Cluster, source: int, target: int, shares: dict[LinkKind, float]) -> Route:
    """The path between two cards with the bandwidth it delivers."""
    link = cluster.link(source, target)
    return Route(link.latency_s, link.bytes_per_s * shares[link_kind(cluster, source, target)])


def collective_route(link: Link, kind: LinkKind) -> Route:
    """A rated link as collectives find it."""
    return Route(link.latency_s * COLLECTIVE_LATENCY_SHARES[kind], link.bytes_per_s * COLLECTIVE_SHARES[kind])


def all_reduce_s(devices: int, num_bytes: float, slowest: Route, *, switched: bool) -> float:
    """One all-reduce of ``num_bytes`` among ``devices`` cards whose slowest path is ``slowest``.

    The fastest of what collectives do. Where all cards reach each other at once (an NVLink switch): one shot, each
    reads all (``alpha + (D-1) n / beta``), or two shots, reduce-scatter and all-gather (``2 alpha + 2 (D-1)/D n / beta``).
    Elsewhere: a ring (``2 (D-1) (alpha + n / (D beta))``) or a tree (``2 ceil(log2 D) (alpha + n / beta)``).
    """
    if devices == 1:
        return 0.0
    alpha, wire_s = slowest.latency_s, num_bytes / slowest.bytes_per_s
    if switched:
        return min(alpha + (devices - 1) * wire_s, 2 * alpha + 2 * (devices - 1) / devices * wire_s)
    ring_s = 2 * (devices - 1) * (alpha + wire_s / devices)
    return min(ring_s, 2 * math.ceil(math.log2(devices)) * (alpha + wire_s))


def stage_all_reduce_s(cluster: Cluster, stage: Stage, num_bytes: Floats) -> Floats:
    """One all-reduce among the cards of a stage, for each size, over the slowest path of the group."""
    if stage.tp == 1:
        return np.zeros_like(num_bytes)
    pairs = [(a, b) for a in stage.devices for b in stage.devices if a != b]
    paths = dict.fromkeys(collective_route(cluster.link(a, b), link_kind(cluster, a, b)) for a, b in pairs)
    switched = stage.tp == 2 or is_one_fabric(cluster, stage)
    times = [[all_reduce_s(stage.tp, float(size), path, switched=switched) for size in num_bytes] for path in paths]
    slowest: Floats = np.max(times, axis=0)
    return slowest


def is_one_fabric(cluster: Cluster, stage: Stage) -> bool:
    """Whether the cards are of one type in one node, all joined by NVLink, as the measured nodes are."""
    one_type = len({(cluster.devices[device].gpu, cluster.devices[device].node) for device in stage.devices}) == 1
    pairs = [(a, b) for a in stage.devices for b in stage.devices if a < b]
    return one_type and all(link_kind(cluster, a, b) == "nvlink" for a, b in pairs)


def hop(cluster: Cluster, model: ModelSpec, sender: Stage, receiver: Stage) -> Route:
    """The path of activations from one stage to the next: the fastest between them, for the bytes of 1,024 tokens."""
    reference = 1024 * model.hidden_size * model.dtype_bytes
    paths = [route(cluster, a, b, POINT_TO_POINT_SHARES) for a in sender.devices for b in receiver.devices]
    return min(paths, key=lambda path: path.seconds(reference))


@dataclass(frozen=True)
class Transfer:
    """KV of one request from a prefill to a decode replica, on idle links: ``alpha_s + tokens * s_per_token``.

    The links are shared with every other transfer that names one of them: a queue a link is busy for
    ``link_s_per_token`` of its own. Encoding and decoding occupy the GPUs, not the links.
    """

    alpha_s: float
    wire_s_per_token: float
    encode_s_per_token: float
    decode_s_per_token: float
    bytes_per_token: float
    links: tuple[tuple[str, str], ...]
    """Physical paths used: (node, node) between nodes, ("node/<id>", "node/<id>") between two cards of one node."""
    link_s_per_token: tuple[float, ...]
    """Busy seconds a token, by link."""

    @property
    def s_per_token(self) -> float:
        """Encoding, wire and decoding, one after the other."""
        return self.wire_s_per_token + self.encode_s_per_token + self.decode_s_per_token

    def seconds(self, tokens: float) -> float:
        """A prompt of ``tokens`` on idle links."""
        return self.alpha_s + tokens * self.s_per_token


def kv_transfer(
    model: ModelSpec,
    prefill: Replica,
    decode: Replica,
    cluster: Cluster,
    codec: KvCodec,
    speed: CodecSpeed = DEFAULT_SPEED,
) -> Transfer:
    """Time of handing over the KV of **all** layers, shards in parallel: the paper's formula times the number of layers.

    A card that holds layer j in prefill sends to the card that holds layer j in decode. Messages over different physical
    links run at the same time; those that share one (all between two nodes do) add up their bytes.
    """
    loads = _bytes_by_link(model, prefill, decode, cluster, codec)
    paths = {key: route(cluster, *ends, POINT_TO_POINT_SHARES) for key, (ends, _) in loads.items()}
    busy = {key: num_bytes / paths[key].bytes_per_s for key, (_, num_bytes) in loads.items()}
    encode, decode_ = codec_s_per_token(model, prefill, decode, cluster, codec, speed)
    return Transfer(
        alpha_s=max((path.latency_s for path in paths.values()), default=0.0),
        wire_s_per_token=max(busy.values(), default=0.0),
        encode_s_per_token=encode,
        decode_s_per_token=decode_,
        bytes_per_token=sum(num_bytes for _, num_bytes in loads.values()),
        links=tuple(busy),
        link_s_per_token=tuple(busy.values()),
    )


Loads = dict[tuple[str, str], tuple[tuple[int, int], float]]


def _bytes_by_link(model: ModelSpec, prefill: Replica, decode: Replica, cluster: Cluster, codec: KvCodec) -> Loads:
    """Bytes a token over each physical link, with two cards at its ends."""
    layer_bytes = model.kv_bytes_per_token(codec.bits_per_value) / model.num_layers
    loads: dict[tuple[str, str], float] = defaultdict(float)
    ends: dict[tuple[str, str], tuple[int, int]] = {}
    for source, target, layers in _overlaps(prefill, decode):
        for a, b, heads in shard_pairs(source, target, model.num_kv_heads):
            if a == b:
                continue
            key = _physical(cluster, a, b)
            loads[key] += layers * layer_bytes * heads / model.num_kv_heads
            ends.setdefault(key, (a, b))
    return {key: (ends[key], num_bytes) for key, num_bytes in loads.items()}


def _overlaps(prefill: Replica, decode: Replica) -> list[tuple[Stage, Stage, int]]:
    """Pairs of stages that hold the same layers, and how many."""
    found = []
    for source, start in zip(prefill.stages, prefill.first_layers, strict=True):
        for target, begin in zip(decode.stages, decode.first_layers, strict=True):
            shared = min(start + source.num_layers, begin + target.num_layers) - max(start, begin)
            if shared > 0:
                found.append((source, target, shared))
    return found


def shard_pairs(source: Stage, target: Stage, kv_heads: int) -> list[tuple[int, int, float]]:
    """Who sends how many KV heads to whom: (sender, receiver, heads), each receiver served once for each of its heads.

    Cards split the heads evenly, in order. With more cards than heads several cards hold the same head; a receiver then
    takes it from the copies in turn, so that the load spreads.
    """
    held = _heads_by_card(source, kv_heads)
    pairs = []
    for number, (device, (low, high)) in enumerate(_heads_by_card(target, kv_heads)):
        for group in dict.fromkeys(span for _, span in held):
            heads = min(high, group[1]) - max(low, group[0])
            if heads > 1e-12:
                copies = [card for card, span in held if span == group]
                pairs.append((copies[number % len(copies)], device, heads))
    return pairs


def _heads_by_card(stage: Stage, kv_heads: int) -> list[tuple[int, tuple[float, float]]]:
    """Each card with the half-open span of KV heads it holds; whole heads are replicated when there are too few."""
    if stage.tp >= kv_heads:
        spans = [(float(math.floor(i * kv_heads / stage.tp)), 0.0) for i in range(stage.tp)]
        return [(card, (low, low + 1)) for card, (low, _) in zip(stage.devices, spans, strict=True)]
    width = kv_heads / stage.tp
    return [(card, (i * width, (i + 1) * width)) for i, card in enumerate(stage.devices)]


def _physical(cluster: Cluster, source: int, target: int) -> tuple[str, str]:
    """The path that messages between two cards share: one a node pair between nodes, one a card pair inside a node."""
    a, b = cluster.devices[source].node, cluster.devices[target].node
    return (a, b) if a != b else (f"{a}/{source}", f"{b}/{target}")
