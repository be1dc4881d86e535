"""``configs/clusters/<name>.yaml``: nodes (or a seed to draw them from) and the network between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from thunderserve.spec import draw
from thunderserve.spec.cluster import Cluster, Device, DevicePair, Link
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.network_file import NetworkFile, SpreadNetwork
from thunderserve.spec.noun import Noun

BRIDGE_LATENCY_S = 8e-6
"""Of an NVLink bridge: what a small message takes between two A100 cards (Vidur's measurements: 7 to 10 us)."""


class NodeEntry(Noun):
    """One node, or several alike (``copies``, then named ``<name>-0``, ``<name>-1`` ...): cards of one type."""

    name: str = Field(min_length=1)
    gpu: str
    """A name of ``configs/gpus``, or a path."""
    count: int = Field(gt=0)
    """Cards on the node."""
    copies: int = Field(default=1, gt=0)
    bridges: Literal["none", "pairs"] = "none"
    """``pairs``: NVLink bridges join cards 0-1, 2-3 ..."""
    inside: Link | None = None
    """The path between two of its cards; without it the fabric of the GPU type."""

    @property
    def node_names(self) -> tuple[str, ...]:
        """The names of its copies."""
        if self.copies == 1:
            return (self.name,)
        return tuple(f"{self.name}-{copy}" for copy in range(self.copies))


class RandomNodes(Noun):
    """Nodes drawn from a seed until there are ``devices`` cards: a type, a size and whether it has bridges, for each."""

    devices: int = Field(gt=0)
    seed: int
    types: tuple[str, ...] = Field(default=("a6000", "a5000", "a40", "3090ti"), min_length=1)
    node_sizes: tuple[int, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    bridged: float = Field(default=0.5, ge=0, le=1)
    """Share of the nodes that have NVLink bridges, among those whose cards can."""

    def nodes(self) -> tuple[tuple[NodeEntry, float], ...]:
        """The nodes, each with a uniform value that says whether it is bridged (below ``bridged``)."""
        drawn: list[tuple[NodeEntry, float]] = []
        left = self.devices
        chances = iter(draw.uniform(self.seed, "nodes", 3 * self.devices).tolist())
        while left:
            kind, size, bridge = next(chances), next(chances), next(chances)
            fitting = [value for value in self.node_sizes if value <= left] or [left]
            gpu = self.types[int(kind * len(self.types))]
            count = fitting[int(size * len(fitting))]
            drawn.append((NodeEntry(name=f"{gpu}-{len(drawn)}", gpu=gpu, count=count), bridge))
            left -= count
        return tuple(drawn)


def market_place(seed: int) -> NetworkFile:
    """The network between rented nodes when a file gives none: 2 to 40 Gbit/s around 12, 0.5 to 20 ms around 2."""
    gbit_per_s = 1e9 / 8
    spread = SpreadNetwork(
        seed=seed,
        median_bytes_per_s=12 * gbit_per_s,
        min_bytes_per_s=2 * gbit_per_s,
        max_bytes_per_s=40 * gbit_per_s,
        bandwidth_sigma=0.7,
        median_latency_s=2e-3,
        min_latency_s=5e-4,
        max_latency_s=2e-2,
        latency_sigma=0.5,
        asymmetry=0.15,
    )
    return NetworkFile(spread=spread)


class ClusterFile(Noun):
    """A cluster before its GPU types are looked up. Exactly one of ``nodes`` and ``random``."""

    name: str = Field(min_length=1)
    description: str = ""
    nodes: tuple[NodeEntry, ...] = ()
    random: RandomNodes | None = None
    network: NetworkFile | None = None
    """Needed where there are several nodes; ``random`` without it draws one as between rented nodes."""

    @model_validator(mode="after")
    def _is_whole(self) -> ClusterFile:
        if bool(self.nodes) == (self.random is not None):
            raise ValueError("give either nodes or random")
        names = [name for entry in self.nodes for name in entry.node_names]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the node name {twice[0]!r} is given twice")
        if len(names) > 1 and self.network is None:
            raise ValueError("has several nodes but no network")
        return self

    @property
    def gpu_names(self) -> tuple[str, ...]:
        """The GPU types it names, each once."""
        named = self.random.types if self.random is not None else tuple(entry.gpu for entry in self.nodes)
        return tuple(dict.fromkeys(named))

    def key_of(self, gpu: str) -> tuple[str | int, ...]:
        """Where in the file the type ``gpu`` is named first; () if nowhere."""
        if self.random is not None:
            return ("random", "types", self.random.types.index(gpu)) if gpu in self.random.types else ()
        places = [index for index, entry in enumerate(self.nodes) if entry.gpu == gpu]
        return ("nodes", places[0], "gpu") if places else ()

    def cluster(self, gpus: Mapping[str, Gpu]) -> Cluster:
        """Build it; ``gpus`` holds a type for each of ``gpu_names``. Raises ValueError, in words."""
        devices: list[Device] = []
        inside: dict[str, Link] = {}
        bridges: list[DevicePair] = []
        for entry in self._entries(gpus):
            gpu = gpus[entry.gpu]
            for node in entry.node_names:
                first = len(devices)
                devices += [Device(id=first + card, gpu=gpu.name, node=node) for card in range(entry.count)]
                inside[node] = entry.inside or Link(latency_s=gpu.fabric_latency_s, bytes_per_s=gpu.fabric_bytes_per_s)
                bridges += _bridges(entry, gpu, first)
        network = self.network or (market_place(self.random.seed) if self.random is not None else NetworkFile())
        used = {device.gpu for device in devices}
        return Cluster(
            name=self.name,
            gpus={gpu.name: gpu for gpu in gpus.values() if gpu.name in used},
            devices=tuple(devices),
            inside=inside,
            bridges=tuple(bridges),
            between=network.between(tuple(inside)),
            description=self.description,
        )

    def _entries(self, gpus: Mapping[str, Gpu]) -> tuple[NodeEntry, ...]:
        if self.random is None:
            return self.nodes
        share = self.random.bridged
        return tuple(
            entry.model_copy(update={"bridges": "pairs"})
            if chance < share and entry.count > 1 and gpus[entry.gpu].bridge_bytes_per_s is not None
            else entry
            for entry, chance in self.random.nodes()
        )


def _bridges(entry: NodeEntry, gpu: Gpu, first: int) -> list[DevicePair]:
    if entry.bridges == "none":
        return []
    if gpu.bridge_bytes_per_s is None:
        raise ValueError(f"node {entry.name!r} wants NVLink bridges, which the {gpu.name} does not have")
    link = Link(latency_s=BRIDGE_LATENCY_S, bytes_per_s=gpu.bridge_bytes_per_s)
    return [DevicePair(first=card, second=card + 1, link=link) for card in range(first, first + entry.count - 1, 2)]
