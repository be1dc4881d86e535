"""The links between the nodes of a cluster, as a cluster file writes them: uniform, drawn from a seed, or one by one."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from thunderserve.spec import draw
from thunderserve.spec.cluster import Link, NodePair
from thunderserve.spec.noun import Noun
from thunderserve.spec.units import BytesPerSecond, Seconds

_MBIT_PER_S = 1e6 / 8
_TICK_S = 1e-5


class UniformNetwork(Noun):
    """Every node pair alike, in both directions."""

    bytes_per_s: BytesPerSecond
    latency_s: Seconds


class SpreadNetwork(Noun):
    """Links drawn from a seed: bandwidth and latency lognormal around their medians, cut at the ends.

    A pair of nodes has a factor of its own (``..._sigma``), and each direction one more (``asymmetry``); all three are
    standard deviations of the logarithm. A link depends on the seed and on the names of its two nodes alone: adding a
    node leaves the others as they were. Results are rounded to 1 Mbit/s and 10 us.
    """

    seed: int
    median_bytes_per_s: BytesPerSecond
    min_bytes_per_s: BytesPerSecond
    max_bytes_per_s: BytesPerSecond
    bandwidth_sigma: float = Field(ge=0)
    median_latency_s: Seconds
    min_latency_s: Seconds
    max_latency_s: Seconds
    latency_sigma: float = Field(ge=0)
    asymmetry: float = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _is_ordered(self) -> SpreadNetwork:
        for name, unit in (("bandwidth", "bytes_per_s"), ("latency", "latency_s")):
            low, middle, high = (getattr(self, f"{end}_{unit}") for end in ("min", "median", "max"))
            if not low <= middle <= high:
                raise ValueError(f"min, median and max of the {name} must ascend")
        return self

    def links(self, nodes: tuple[str, ...]) -> dict[tuple[str, str], Link]:
        """A link for every ordered pair of ``nodes``."""
        ordered = [(a, b) for a in nodes for b in nodes if a != b]
        pair = self._normals(["|".join(sorted(ends)) for ends in ordered])
        way = self._normals(["->".join(ends) for ends in ordered])
        wide = self.median_bytes_per_s * draw.exp(self.bandwidth_sigma * pair[:, 0] + self.asymmetry * way[:, 0])
        late = self.median_latency_s * draw.exp(self.latency_sigma * pair[:, 1] + self.asymmetry * way[:, 1])
        wide = np.rint(np.clip(wide, self.min_bytes_per_s, self.max_bytes_per_s) / _MBIT_PER_S) * _MBIT_PER_S
        late = np.rint(np.clip(late, self.min_latency_s, self.max_latency_s) / _TICK_S) / round(1 / _TICK_S)
        return {
            ends: Link(bytes_per_s=float(rate), latency_s=float(latency))
            for ends, rate, latency in zip(ordered, wide, late, strict=True)
        }

    def _normals(self, labels: list[str]) -> draw.Floats:
        """Two standard normal values a label, of shape (labels, 2)."""
        return draw.inverse_normal(draw.hashed_uniform([f"link:{self.seed}:{label}" for label in labels], 2))


class LinkEntry(Noun):
    """One link between two nodes; ``both: true`` for both directions."""

    source: str
    target: str
    bytes_per_s: BytesPerSecond
    latency_s: Seconds
    both: bool = False


class NetworkFile(Noun):
    """``uniform`` or ``spread`` for all node pairs, and ``links`` for exceptions (or for all of them)."""

    uniform: UniformNetwork | None = None
    spread: SpreadNetwork | None = None
    links: tuple[LinkEntry, ...] = ()

    @model_validator(mode="after")
    def _is_one_kind(self) -> NetworkFile:
        if self.uniform is not None and self.spread is not None:
            raise ValueError("give either uniform or spread")
        return self

    def between(self, nodes: tuple[str, ...]) -> tuple[NodePair, ...]:
        """The links of all node pairs. Raises ValueError for a node that is not there or named twice with another."""
        found: dict[tuple[str, str], Link] = {}
        if self.uniform is not None:
            link = Link(bytes_per_s=self.uniform.bytes_per_s, latency_s=self.uniform.latency_s)
            found = {(a, b): link for a in nodes for b in nodes if a != b}
        elif self.spread is not None:
            found = self.spread.links(nodes)
        return tuple(
            NodePair(source=source, target=target, link=link)
            for (source, target), link in (found | self._exceptions(nodes)).items()
        )

    def _exceptions(self, nodes: tuple[str, ...]) -> dict[tuple[str, str], Link]:
        found: dict[tuple[str, str], Link] = {}
        for entry in self.links:
            ways = [(entry.source, entry.target)] + ([(entry.target, entry.source)] if entry.both else [])
            for ends in ways:
                if missing := [node for node in ends if node not in nodes]:
                    raise ValueError(f"a link names the node {missing[0]!r}, which is not there")
                if ends in found or ends[0] == ends[1]:
                    raise ValueError(f"the link from {ends[0]!r} to {ends[1]!r} is given twice or leads nowhere")
                found[ends] = Link(bytes_per_s=entry.bytes_per_s, latency_s=entry.latency_s)
        return found
