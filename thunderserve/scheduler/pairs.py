"""KV transfer between two configurations, by kinds: what ``cost.network.kv_transfer`` says once cards are chosen.

All messages between two nodes share one path; inside a node every pair of cards has its own. Remembered by pair of
configurations, because a move changes two groups and leaves the other pairs as they are.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from thunderserve.cost.codec import SpeedOf, assumed
from thunderserve.scheduler.configuration import StageChoice
from thunderserve.scheduler.inventory import Inventory
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.model import ModelSpec

Stages = tuple[StageChoice, ...]


class Passage(NamedTuple):
    """A transfer takes ``alpha_s + tokens * wire_s_per_token`` on all its links at once, and codec time at both ends."""

    codec: KvCodec
    alpha_s: float
    wire_s_per_token: float
    encode_s_per_token: float
    decode_s_per_token: float
    links: tuple[tuple[str, str], ...]
    """(node, node) paths it occupies, shared with others."""
    inside: bool
    """Whether it also occupies paths between cards of one node, which no other pair of replicas uses."""

    @property
    def codec_s_per_token(self) -> float:
        """At both ends together."""
        return self.encode_s_per_token + self.decode_s_per_token

    def seconds(self, tokens: float) -> float:
        """On idle links."""
        return self.alpha_s + tokens * (self.wire_s_per_token + self.codec_s_per_token)


@dataclass
class Passages:
    """Transfers between configurations of one cluster under the codecs that a plan may use."""

    inventory: Inventory
    model: ModelSpec
    codecs: tuple[KvCodec, ...]
    mean_prompt: float
    speed: SpeedOf = assumed
    _known: dict[tuple[Stages, Stages], Passage] = field(default_factory=dict)

    def __call__(self, prefill: Stages, decode: Stages, encode_s: float, decode_s: float) -> Passage:
        """The fastest codec for the mean prompt. ``encode_s`` and ``decode_s``: see ``Configuration.codec_s_per_token``."""
        key = (prefill, decode)
        found = self._known.get(key)
        if found is None:
            bits = self._values(prefill, decode)
            options = [self._passage(codec, bits, encode_s, decode_s) for codec in self.codecs]
            found = self._known[key] = min(options, key=lambda one: one.seconds(self.mean_prompt))
        return found

    def _passage(
        self, codec: KvCodec, loads: dict[tuple[int, int], float], encode_s: float, decode_s: float
    ) -> Passage:
        value_bytes = codec.bits_per_value / 8
        kinds, alpha_s, wire_s = self.inventory.kinds, 0.0, 0.0
        by_nodes: dict[tuple[str, str], float] = defaultdict(float)
        for (a, b), values in loads.items():
            path = self.inventory.path(a, b)
            seconds = values * value_bytes / path.bytes_per_s
            alpha_s = max(alpha_s, path.latency_s)
            if kinds[a].node == kinds[b].node:
                wire_s = max(wire_s, seconds)
            else:
                by_nodes[kinds[a].node, kinds[b].node] += seconds
        wire_s = max(wire_s, *by_nodes.values()) if by_nodes else wire_s
        coded = codec.bits_per_value < 8 * self.model.dtype_bytes
        speed = self.speed(codec)
        encode_s, decode_s = (encode_s / speed.encode_share, decode_s / speed.decode_share) if coded else (0.0, 0.0)
        inside = any(kinds[a].node == kinds[b].node for a, b in loads)
        return Passage(codec, alpha_s, wire_s, encode_s, decode_s, tuple(by_nodes), inside)

    def _values(self, prefill: Stages, decode: Stages) -> dict[tuple[int, int], float]:
        """KV values of a token by pair of kinds: over the shared path between nodes, over the busiest card pair inside one."""
        kinds, heads = self.inventory.kinds, self.model.num_kv_heads
        layer_values = 2 * heads * self.model.head_dim
        loads: dict[tuple[int, int], float] = defaultdict(float)
        for source, target, layers in overlaps(prefill, decode):
            key = (source.kind, target.kind)
            if kinds[source.kind].node == kinds[target.kind].node:
                busiest = layers * layer_values * max(1 / max(source.tp, target.tp), 1 / heads)
                loads[key] = max(loads[key], busiest)
            else:  # a head that several receivers hold is sent to each of them
                loads[key] += layers * layer_values * max(target.tp / heads, 1.0)
        return loads


def overlaps(prefill: Stages, decode: Stages) -> list[tuple[StageChoice, StageChoice, int]]:
    """Pairs of stages that hold the same layers, and how many."""
    found, start = [], 0
    for source in prefill:
        begin = 0
        for target in decode:
            shared = min(start + source.num_layers, begin + target.num_layers) - max(start, begin)
            if shared > 0:
                found.append((source, target, shared))
            begin += target.num_layers
        start += source.num_layers
    return found
