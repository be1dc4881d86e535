"""The cards of a cluster as *kinds*: equal cards of one node, which no plan needs to tell apart.

A solution of the upper level counts cards by kind (HexGen's genes are counts by machine and type, too). Cards joined by
NVLink bridges are a kind of their own, so that every pair cut from a kind, in its order, is alike.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from thunderserve.cost.network import POINT_TO_POINT_SHARES, Route, route
from thunderserve.spec.cluster import Cluster, Link
from thunderserve.spec.gpu import Gpu


class Breed(NamedTuple):
    """What kinds on different nodes may share: the same type behind the same links. Stage costs depend on it alone."""

    gpu: Gpu
    inside: Link
    bridge: Link | None


@dataclass(frozen=True)
class Kind:
    """Equal cards of one node; partners of a bridge stand next to each other."""

    node: str
    breed: Breed
    devices: tuple[int, ...]

    @property
    def gpu(self) -> Gpu:
        """Their type."""
        return self.breed.gpu


@dataclass(frozen=True)
class Inventory:
    """All kinds of a cluster, in order of their first card."""

    cluster: Cluster
    kinds: tuple[Kind, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Cards of each kind."""
        return tuple(len(kind.devices) for kind in self.kinds)

    @cached_property
    def kind_of(self) -> dict[int, int]:
        """Kind by card."""
        return {device: index for index, kind in enumerate(self.kinds) for device in kind.devices}

    @cached_property
    def breed_of(self) -> tuple[int, ...]:
        """A number for the breed of each kind: equal breeds, equal numbers."""
        numbers: dict[Breed, int] = {}
        return tuple(numbers.setdefault(kind.breed, len(numbers)) for kind in self.kinds)

    @cached_property
    def _routes(self) -> dict[tuple[int, int], Route]:
        return {}

    def path(self, source: int, target: int) -> Route:
        """What one message gets between two cards of these kinds (two different cards where the kind is the same)."""
        key = (source, target)
        found = self._routes.get(key)
        if found is None:
            found = self._routes[key] = self._path(*key)
        return found

    def _path(self, source: int, target: int) -> Route:
        a, b = self.kinds[source], self.kinds[target]
        if source != target:
            return route(self.cluster, a.devices[0], b.devices[0], POINT_TO_POINT_SHARES)
        if len(a.devices) > 1:
            return route(self.cluster, a.devices[0], a.devices[-1], POINT_TO_POINT_SHARES)
        return Route(a.breed.inside.latency_s, a.breed.inside.bytes_per_s)


def take_stock(cluster: Cluster) -> Inventory:
    """The kinds of ``cluster``."""
    bridges = {(bridge.first, bridge.second): bridge.link for bridge in cluster.bridges}
    partner = {a: b for pair in bridges for a, b in (pair, pair[::-1])}
    members: dict[tuple[str, Breed], list[int]] = defaultdict(list)
    for device in cluster.devices:
        if device.id in (card for cards in members.values() for card in cards):
            continue
        other = partner.get(device.id)
        alike = other is not None and cluster.devices[other].gpu == device.gpu
        link = (bridges.get((device.id, other)) or bridges[other, device.id]) if other is not None and alike else None
        breed = Breed(cluster.gpu(device.id), cluster.inside[device.node], link)
        members[device.node, breed] += [device.id, other] if link is not None and other is not None else [device.id]
    return Inventory(cluster, tuple(Kind(node, breed, tuple(cards)) for (node, breed), cards in members.items()))
