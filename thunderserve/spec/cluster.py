"""Rented cards and the links between them."""

from __future__ import annotations

from functools import cached_property

from pydantic import Field, model_validator

from thunderserve.spec.gpu import Gpu
from thunderserve.spec.noun import Noun
from thunderserve.spec.units import BytesPerSecond, Seconds


class Device(Noun):
    """One rented card."""

    id: int = Field(ge=0)
    gpu: str
    """Name of its type, a key of ``Cluster.gpus``."""
    node: str


class Link(Noun):
    """A directed path: ``latency_s + bytes / bytes_per_s``, and it queues."""

    latency_s: Seconds
    bytes_per_s: BytesPerSecond

    def seconds(self, num_bytes: float) -> float:
        """Time of one message on an idle link (the alpha-beta model)."""
        return self.latency_s + num_bytes / self.bytes_per_s


class NodePair(Noun):
    """A directed link between two nodes: one network path, shared by all cards of both."""

    source: str
    target: str
    link: Link


class DevicePair(Noun):
    """An exception inside a node: two cards joined by an NVLink bridge (both directions)."""

    first: int
    second: int
    link: Link


class Cluster(Noun):
    """Mixed cards on nodes. Refuses unknown types, ids that repeat, and node pairs without a link."""

    name: str
    gpus: dict[str, Gpu]
    devices: tuple[Device, ...] = Field(min_length=1)
    inside: dict[str, Link]
    """By node: the path between any two of its cards (PCIe, NVLink switch)."""
    bridges: tuple[DevicePair, ...] = ()
    between: tuple[NodePair, ...] = ()
    description: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Cluster:
        ids = [device.id for device in self.devices]
        if ids != list(range(len(ids))):
            raise ValueError("device ids must be 0, 1, 2 ... in order")
        for device in self.devices:
            if device.gpu not in self.gpus:
                raise ValueError(f"device {device.id} is of the unknown type {device.gpu!r}")
            if device.node not in self.inside:
                raise ValueError(f"node {device.node!r} has no inside link")
        joined = {(pair.source, pair.target) for pair in self.between}
        if len(joined) != len(self.between):
            raise ValueError("a node pair is linked twice")
        for source in self.nodes:
            for target in self.nodes:
                if source != target and (source, target) not in joined:
                    raise ValueError(f"there is no link from node {source!r} to node {target!r}")
        for bridge in self.bridges:
            if self.devices[bridge.first].node != self.devices[bridge.second].node:
                raise ValueError(f"the bridge {bridge.first}-{bridge.second} joins two nodes")
        return self

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Node names in order of their first card."""
        return tuple(dict.fromkeys(device.node for device in self.devices))

    @cached_property
    def _between(self) -> dict[tuple[str, str], Link]:
        return {(pair.source, pair.target): pair.link for pair in self.between}

    @cached_property
    def _bridges(self) -> dict[tuple[int, int], Link]:
        both = {(pair.first, pair.second): pair.link for pair in self.bridges}
        return both | {(b, a): link for (a, b), link in both.items()}

    def gpu(self, device: int) -> Gpu:
        """The type of a card, by its id."""
        return self.gpus[self.devices[device].gpu]

    def link(self, source: int, target: int) -> Link:
        """The path between two cards, by id: bridge, node or network. Raises ValueError for itself."""
        if source == target:
            raise ValueError(f"device {source} needs no link to itself")
        bridge = self._bridges.get((source, target))
        if bridge is not None:
            return bridge
        a, b = self.devices[source].node, self.devices[target].node
        return self.inside[a] if a == b else self._between[a, b]

    @property
    def price_per_hour(self) -> float:
        """USD for an hour of all cards."""
        return sum(self.gpu(device.id).price_per_hour for device in self.devices)
