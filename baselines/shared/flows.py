"""Maximum flow from prefill replicas to decode replicas, by preflow-push on integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from baselines.shared.extras import require

UNITS = 1000
"""Flow is counted in thousandths of a request a window: integers, so that preflow-push is exact and ends."""


class FlowSolution(NamedTuple):
    """Requests a window: in all, and over each edge that carries some."""

    value: float
    edges: dict[tuple[int, int], float]


def max_flow(
    prefill: Sequence[float], decode: Sequence[float], links: Mapping[tuple[int, int], float], system: str
) -> FlowSolution:
    """The largest flow source -> prefill i -> decode j -> sink, with capacities on the nodes and on the edges (i, j).

    Goldberg and Tarjan's preflow-push (highest label first), from networkx. Capacities are rounded down to 1/1000.
    """
    networkx = require("networkx", system)
    graph = networkx.DiGraph()
    for i, capacity in enumerate(prefill):
        graph.add_edge("source", ("prefill", i), capacity=int(capacity * UNITS))
    for j, capacity in enumerate(decode):
        graph.add_edge(("decode", j), "sink", capacity=int(capacity * UNITS))
    for (i, j), capacity in sorted(links.items()):
        graph.add_edge(("prefill", i), ("decode", j), capacity=int(capacity * UNITS))
    value, flow = networkx.maximum_flow(graph, "source", "sink", flow_func=networkx.algorithms.flow.preflow_push)
    edges = {
        (i, j): flow["prefill", i]["decode", j] / UNITS for i, j in sorted(links) if flow["prefill", i]["decode", j]
    }
    return FlowSolution(value / UNITS, edges)
