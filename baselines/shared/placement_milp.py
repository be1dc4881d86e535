"""Helix's placement MILP, restricted to disjoint chains, for scipy's HiGHS.

With L layers, units i, j and edges (a, b) from the source S over units to the sink T (after the paper, section 4):

    y[i,n] in {0,1}   unit i holds n layers              s[i] >= 0        its first layer
    d[a,b] in {0,1}   edge (a, b) is used                f[a,b] >= 0      requests a second over it

    maximise sum_i f[S,i]   subject to
    sum_n y[i,n] <= 1,   sum_a d[a,i] = sum_b d[i,b] = sum_n y[i,n]             (at most one chain goes through a unit)
    f[a,b] <= link[a,b] d[a,b],   sum_a f[a,i] = sum_b f[i,b] <= sum_n rate_i(n) y[i,n]
    d[a,b] = 1  =>  s[b] = s[a] + layers of a,      s[i] = 0 after S,   s[i] + layers of i = L before T

and, to tighten its relaxation: L times the flow is at most the layers passed a second by all units; chains hold L layers each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared.chains import Chain, Network, Placement
from baselines.shared.extras import require

SOURCE, SINK = -1, -2
Edge = tuple[int, int]


class Limits(NamedTuple):
    """When the solver stops. Only ``nodes`` and ``gap`` keep the answer the same on every machine."""

    nodes: int
    gap: float
    seconds: float


class Solution(NamedTuple):
    """The placement (empty if none was found), an upper bound on the flow of any, and why the solver stopped."""

    placement: Placement
    bound: float
    stopped: str


class _Program:
    """Columns and rows of a MILP, gathered by name."""

    def __init__(self) -> None:
        self.column: dict[tuple[str, object], int] = {}
        self.upper: list[float] = []
        self.integer: list[bool] = []
        self.entries: list[tuple[int, int, float]] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, name: str, key: object, upper: float, *, integer: bool = False) -> None:
        """A variable between 0 and ``upper``."""
        self.column[name, key] = len(self.upper)
        self.upper.append(upper)
        self.integer.append(integer)

    def row(self, terms: Sequence[tuple[str, object, float]], low: float, high: float) -> None:
        """``low <= sum of terms <= high``."""
        number = len(self.low)
        self.entries += [(number, self.column[name, key], factor) for name, key, factor in terms]
        self.low.append(low)
        self.high.append(high)

    def solve(self, gain: dict[int, float], limits: Limits) -> Any:
        """Maximise; scipy's result."""
        optimize, sparse = require("scipy.optimize", "helix"), require("scipy.sparse", "helix")
        rows, columns, values = zip(*self.entries, strict=True)
        matrix = sparse.csr_array((values, (rows, columns)), shape=(len(self.low), len(self.upper)))
        cost = np.zeros(len(self.upper))
        for column, value in gain.items():
            cost[column] = -value
        options = {"node_limit": limits.nodes, "mip_rel_gap": limits.gap, "time_limit": limits.seconds}
        return optimize.milp(
            cost,
            integrality=np.array(self.integer, dtype=int),
            bounds=optimize.Bounds(0, np.array(self.upper)),
            constraints=optimize.LinearConstraint(matrix, np.array(self.low), np.array(self.high)),
            options=options,
        )


NODE_LIMIT = 4
"""scipy's status when the node limit ended the search (it does not know HiGHS's own)."""


def solve(network: Network, limits: Limits) -> Solution:
    """The disjoint chains of the largest flow, as far as the limits let the solver look."""
    program = _formulated(network)
    gain = {program.column["f", (SOURCE, i)]: 1.0 for i in range(len(network.units))}
    result = program.solve(gain, limits)
    bound = network.bound if result.mip_dual_bound is None else min(-float(result.mip_dual_bound), network.bound)
    stopped = {0: "optimal within the gap", 1: "time limit", NODE_LIMIT: "node limit"}.get(
        result.status, result.message
    )
    return Solution(() if result.x is None else _read(network, program, result.x), bound, stopped)


def _formulated(network: Network) -> _Program:
    program = _Program()
    count, layers = len(network.units), network.num_layers
    fastest = max((unit.rates[0] for unit in network.units if unit.most), default=0.0)
    edges: list[Edge] = [(SOURCE, i) for i in range(count)] + [(i, SINK) for i in range(count)] + list(network.links)
    for i, unit in enumerate(network.units):
        program.add("s", i, layers)
        for n in range(1, unit.most + 1):
            program.add("y", (i, n), 1, integer=True)
    for edge in edges:
        program.add("d", edge, 1, integer=True)
        program.add("f", edge, network.links.get(edge, fastest))
        capacity = min(network.links.get(edge, fastest), fastest)
        program.row([("f", edge, 1), ("d", edge, -capacity)], -np.inf, 0)
    for i in range(count):
        _around(program, network, i, edges)
    for a, b in network.links:
        held = [("y", (a, n), float(n)) for n in range(1, network.units[a].most + 1)]
        after = [("s", b, 1.0), ("s", a, -1.0), *[(name, key, -n) for name, key, n in held]]
        program.row([*after, ("d", (a, b), float(layers))], -np.inf, layers)
        program.row([*after, ("d", (a, b), -2.0 * layers)], -2.0 * layers, np.inf)
    _tighten(program, network)
    return program


def _around(program: _Program, network: Network, i: int, edges: list[Edge]) -> None:
    """What holds at one unit."""
    unit, layers = network.units[i], network.num_layers
    numbers = range(1, unit.most + 1)
    into, out = [edge for edge in edges if edge[1] == i], [edge for edge in edges if edge[0] == i]
    used: list[tuple[str, object, float]] = [("y", (i, n), -1.0) for n in numbers]
    held: list[tuple[str, object, float]] = [("y", (i, n), float(n)) for n in numbers]
    program.row([("y", (i, n), 1.0) for n in numbers] or [("s", i, 0.0)], 0, 1)
    program.row([("d", edge, 1.0) for edge in into] + used, 0, 0)
    program.row([("d", edge, 1.0) for edge in out] + used, 0, 0)
    program.row([("f", edge, 1.0) for edge in into] + [("f", edge, -1.0) for edge in out], 0, 0)
    rated: list[tuple[str, object, float]] = [("y", (i, n), -unit.rates[n - 1]) for n in numbers]
    program.row([("f", edge, 1.0) for edge in into] + rated, -np.inf, 0)
    program.row([("s", i, 1.0), ("d", (SOURCE, i), float(layers))], 0, layers)
    program.row([("s", i, 1.0), *held], 0, layers)
    program.row([("s", i, 1.0), *held, ("d", (i, SINK), -float(layers))], 0, np.inf)


def _tighten(program: _Program, network: Network) -> None:
    """Rows that hold anyway."""
    count, layers = len(network.units), network.num_layers
    flow: list[tuple[str, object, float]] = [("f", (SOURCE, i), 1.0) for i in range(count)]
    choices = [(i, n) for i, unit in enumerate(network.units) for n in range(1, unit.most + 1)]
    passed = [("y", (i, n), -n * network.units[i].rates[n - 1] / layers) for i, n in choices]
    program.row([*flow, *passed], -np.inf, 0)
    starts = [("d", (SOURCE, i), -float(layers)) for i in range(count)]
    program.row([("y", (i, n), float(n)) for i, n in choices] + starts, 0, 0)
    for i, (unit, following) in enumerate(zip(network.units, network.units[1:], strict=False)):
        if (unit.gpu, unit.site, unit.rates) == (following.gpu, following.site, following.rates):
            held = [
                ("y", (j, n), float(n) * sign) for j, sign in ((i, 1), (i + 1, -1)) for n in range(1, unit.most + 1)
            ]
            program.row(held, 0, np.inf)  # of interchangeable units the first holds the most


def _read(network: Network, program: _Program, x: NDArray[np.float64]) -> Placement:
    """Follow the used edges from the source. Layers are dealt anew within a chain: never worse than the solver's."""
    used = {key: x[column] > 0.5 for (name, key), column in program.column.items() if name == "d"}
    chains: list[Chain] = []
    for first in (i for i in range(len(network.units)) if used[SOURCE, i]):
        order = [first]
        while not used[order[-1], SINK]:
            order.append(next(b for a, b in network.links if a == order[-1] and used[a, b]))
        chain = network.chain(tuple(order))
        if chain is not None and chain.flow > 0:
            chains.append(chain)
    return tuple(chains)
