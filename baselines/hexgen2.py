"""HexGen-2: disaggregated prefill and decode on mixed GPUs, by graph partition and maximum flow.

Jiang, Yan and Yuan, "HexGen-2: Disaggregated Generative Inference of LLMs in Heterogeneous Environment" (ICLR 2025,
arXiv 2502.07903), section 3.

* Graph partition. GPUs are nodes weighted by memory, links are edges weighted by bandwidth. Spectral partition into
  K = total memory / memory of a replica groups with little bandwidth between them, refined by Kernighan-Lin. A second
  partition, of the groups, makes prefill and decode groups with *much* bandwidth between them, for the KV.
* Maximum flow. A prefill group's capacity is the requests it takes in a window under its latency-optimal layout, a decode
  group's those under its throughput-optimal layout, an edge's the requests whose KV it carries. Preflow-push tells the
  requests served and the bottlenecks.
* Refinement. Guided by the flow, groups with capacity to spare change sides or trade cards with saturated ones, the best
  trade first, until the flow grows no more. The flow is the plan's routing.

The objective is throughput: the SLO is not looked at. KV travels at 16 bit, there is no rescheduling. Edges are taken as
independent, although edges between the same two nodes share a link (so in the paper, as far as known). Layouts come from the
dynamic programming of HexGen, which it builds on; cost model and engine are ours. Left out: overlap of KV transfer and compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared.cuts import kernighan_lin, large_cut, spectral
from baselines.shared.flows import FlowSolution, max_flow
from baselines.shared.layouts import Layouts
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.partitions import Genes, Group, add, dealt, only, subtract
from baselines.shared.pipelines import describe, replica_of
from baselines.shared.stages import Ends, Layout, StageBook, prefill_rate_per_s, remember
from thunderserve.cost.network import kv_transfer
from thunderserve.policy import Problem
from thunderserve.spec.kv import RAW
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica

SATURATED = 0.999
"""Share of its capacity at which a group counts as a bottleneck."""


@dataclass(frozen=True)
class System:
    """Options of the ``hexgen2`` system."""

    headroom: float = 1.2
    """Memory of a replica, over that of its weights and one longest request: what K is computed with."""
    window_s: float = 600.0
    """Capacities are requests in this time."""
    trades: int = 40
    """Trades of sides tried a round, and trades of cards once no change of sides helps."""
    rounds: int = 20
    max_stages: int = 8
    max_sequences: int = 256
    saturation_tokens: int = 2048
    """Prompts are batched up to this many tokens."""

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when the cluster does not hold the model twice, once for each phase."""
        search = Search(self, problem)
        best = search.run()
        kept = sorted({("prefill", i) for i, _ in best.flow.edges} | {("decode", j) for _, j in best.flow.edges})
        order = sorted(kept, key=lambda key: (key[0] == "decode", key[1]))
        place = {key: number for number, key in enumerate(order)}
        flows = tuple(
            Flow(prefill=place["prefill", i], decode=place["decode", j], share=share / best.flow.value, codec=RAW)
            for (i, j), share in best.flow.edges.items()
        )
        notes = {
            "search": f"K={len(best.state.groups)}, {search.evaluations} flows, {search.moves} moves taken, "
            f"{search.pipelines.searched} groups laid out",
            "estimate": f"{best.flow.value / self.window_s:.3f} requests/s by maximum flow "
            f"({search.started / self.window_s:.3f} before refinement)",
            "idle": f"{len(best.state.groups) - len(order)} groups carry no flow and are left out",
            "replicas": "; ".join(f"{key[0]} {describe(best.layouts[key], problem.cluster)}" for key in order),
        }
        replicas = tuple(search.replica(best.layouts[key], Phase(key[0])) for key in order)
        return Plan(system="hexgen2", replicas=replicas, flows=flows, router="flows", notes=notes)


class State(NamedTuple):
    """Groups of cards, and which of them prefill."""

    groups: Genes
    prefills: tuple[bool, ...]


class Solved(NamedTuple):
    """A state with its layouts and its maximum flow; keys are (phase, number within the phase)."""

    flow: FlowSolution
    state: State
    layouts: dict[tuple[str, int], Layout]
    used: tuple[float, ...]
    """Share of the capacity of each group that the flow uses."""
    spare: tuple[float, ...]
    """Requests a window that each group could take beyond its flow."""


class Search:
    """One run of partition and refinement."""

    def __init__(self, options: System, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.prefill_batching = Batching(
            policy="saturation",
            saturation_tokens=options.saturation_tokens,
            max_batched_tokens=options.saturation_tokens,
            max_sequences=options.max_sequences,
        )
        self.decode_batching = Batching(
            policy="continuous", max_sequences=options.max_sequences, max_batched_tokens=options.max_sequences
        )
        costs = Remembered(problem.costs)
        self.book = StageBook(problem.cluster, problem.model, costs, typical(problem), self.prefill_batching)
        self.pipelines = Layouts(self.book, options.max_stages)
        inner, longest = Ends(first=False, last=False), self.book.load.longest
        self.room = [self.book.layer_room(site.devices[:1], inner, longest) for site in self.pipelines.sites]
        self.evaluations = self.moves = 0
        self.started = 0.0
        self._edges: dict[tuple[Layout, Layout], float] = {}
        self._known: dict[State, Solved | None] = {}

    def run(self) -> Solved:
        """Partition, then refine while the flow grows. Raises ValueError when two replicas do not fit."""
        current = self.first()
        self.started = current.flow.value
        for _ in range(self.options.rounds):
            better = self.better(current, self.sides(current)) or self.better(current, self.trades(current))
            if better is None:
                break
            current, self.moves = better, self.moves + 1
        return current

    def first(self) -> Solved:
        """The partition with the most groups that all hold the model, and the better of its two ways round."""
        memory = np.array([self._room_of(device) for device in range(len(self.problem.cluster.devices))])
        needed = self.options.headroom * self.problem.model.num_layers
        bandwidth = bandwidths(self.problem)
        for k in range(max(int(memory.sum() / needed), 2), 1, -1):
            if k > len(memory):
                continue
            labels = kernighan_lin(bandwidth, spectral(bandwidth, memory, k), lambda new: self._fits(new, memory))
            groups = tuple(self._counts(np.flatnonzero(labels == part).tolist()) for part in range(k))
            sides = large_cut(between(bandwidth, labels)).astype(bool)
            solved = [self.solve(State(groups, tuple(way.tolist()))) for way in (sides, ~sides)]
            found = [one for one in solved if one is not None and one.flow.value > 0]
            if found:
                return max(found, key=lambda one: one.flow.value)
        name, model = self.problem.cluster.name, self.problem.model.name
        raise ValueError(f"hexgen2: {name} does not hold {model} twice, once for each phase")

    def better(self, current: Solved, states: Iterator[State]) -> Solved | None:
        """The neighbour of the largest flow, if that is larger than the current one."""
        solved = [one for one in map(self.solve, states) if one is not None]
        best = max(solved, key=lambda one: one.flow.value, default=None)
        return best if best is not None and best.flow.value > current.flow.value * (1 + 1e-9) else None

    def sides(self, current: Solved) -> Iterator[State]:
        """Groups with capacity to spare change sides, or trade sides with one of the other phase (tight ones first)."""
        prefills = current.state.prefills
        tight_first = sorted(range(len(prefills)), key=lambda i: (current.spare[i], i))
        loose_first = [i for i in reversed(tight_first) if current.used[i] < SATURATED]
        for a in loose_first:
            yield State(current.state.groups, _flipped(prefills, a))
        pairs = ((a, b) for b in tight_first for a in loose_first if prefills[a] != prefills[b])
        for a, b in islice(pairs, self.options.trades):
            yield State(current.state.groups, _flipped(_flipped(prefills, a), b))

    def trades(self, current: Solved) -> Iterator[State]:
        """Groups with the most to spare give cards to saturated ones, or swap cards with them."""
        loose = sorted((i for i, used in enumerate(current.used) if used < SATURATED), key=lambda i: -current.spare[i])
        tight = [i for i, used in enumerate(current.used) if used >= SATURATED]
        states = (
            State(groups, current.state.prefills)
            for giver in loose
            for taker in tight
            for groups in self._traded(current.state.groups, giver, taker)
        )
        yield from islice(states, self.options.trades)

    def _traded(self, groups: Genes, giver: int, taker: int) -> Iterator[Genes]:
        for cards in (1, 2):
            for site, owned in enumerate(groups[giver]):
                if owned < cards:
                    continue
                given = only(len(groups[giver]), site, cards)
                backs = [
                    only(len(given), other, cards)
                    for other, has in enumerate(groups[taker])
                    if has >= cards and other != site
                ]
                for back in [only(len(given), site, 0), *backs]:
                    first = add(subtract(groups[giver], given), back)
                    second = add(subtract(groups[taker], back), given)
                    if self._holds(first) and self._holds(second):
                        yield tuple(first if i == giver else second if i == taker else g for i, g in enumerate(groups))

    def solve(self, state: State) -> Solved | None:
        """Layouts, capacities and the maximum flow; None where a group does not hold the model or a phase is missing."""
        return remember(self._known, state, lambda: self._solved(state))

    def _solved(self, state: State) -> Solved | None:
        if len(set(state.prefills)) < 2:
            return None
        layouts: dict[tuple[str, int], Layout] = {}
        capacity: dict[str, list[float]] = {"prefill": [], "decode": []}
        keys = []
        for devices, prefills in zip(dealt(self.pipelines.sites, state.groups), state.prefills, strict=True):
            priced = self.pipelines.best(devices, "latency" if prefills else "throughput")
            if priced is None:
                return None
            phase = "prefill" if prefills else "decode"
            keys.append((phase, len(capacity[phase])))
            layouts[keys[-1]] = priced.layout
            rate = prefill_rate_per_s(self.book, priced.layout) if prefills else priced.score
            capacity[phase].append(rate * self.options.window_s)
        return self._flowed(state, layouts, capacity, keys)

    def _flowed(
        self,
        state: State,
        layouts: dict[tuple[str, int], Layout],
        capacity: dict[str, list[float]],
        keys: list[tuple[str, int]],
    ) -> Solved:
        self.evaluations += 1
        links = {
            (i, j): self._edge(layouts["prefill", i], layouts["decode", j]) * self.options.window_s
            for i in range(len(capacity["prefill"]))
            for j in range(len(capacity["decode"]))
        }
        flow = max_flow(capacity["prefill"], capacity["decode"], links, "hexgen2")
        carried = dict.fromkeys(keys, 0.0)
        for (i, j), amount in flow.edges.items():
            carried["prefill", i] += amount
            carried["decode", j] += amount
        full = {key: capacity[key[0]][key[1]] for key in keys}
        used = tuple(carried[key] / full[key] if full[key] > 0 else 1.0 for key in keys)
        return Solved(flow, state, layouts, used, tuple(full[key] - carried[key] for key in keys))

    def _edge(self, prefill: Layout, decode: Layout) -> float:
        """Requests a second whose KV the links between two groups carry."""
        return remember(self._edges, (prefill, decode), lambda: self._carried(prefill, decode))

    def _carried(self, prefill: Layout, decode: Layout) -> float:
        ends = self.replica(prefill, Phase.PREFILL), self.replica(decode, Phase.DECODE)
        transfer = kv_transfer(self.problem.model, *ends, self.problem.cluster, RAW)
        return 1 / max(transfer.wire_s_per_token * self.book.load.prompt_tokens, 1e-9)

    def replica(self, layout: Layout, phase: Phase) -> Replica:
        """The layout as a replica of a phase."""
        return replica_of(layout, phase, self.prefill_batching if phase is Phase.PREFILL else self.decode_batching)

    def _counts(self, devices: list[int]) -> Group:
        return tuple(sum(device in site.devices for device in devices) for site in self.pipelines.sites)

    def _room_of(self, device: int) -> float:
        return next(room for site, room in zip(self.pipelines.sites, self.room, strict=True) if device in site.devices)

    def _holds(self, group: Group) -> bool:
        return sum(n * room for n, room in zip(group, self.room, strict=True)) >= self.problem.model.num_layers

    def _fits(self, labels: NDArray[np.int64], memory: NDArray[np.float64]) -> bool:
        return bool(np.bincount(labels, weights=memory).min() >= self.problem.model.num_layers)


def bandwidths(problem: Problem) -> NDArray[np.float64]:
    """(N, N) bytes a second between two cards, the slower way."""
    cluster = problem.cluster
    count = len(cluster.devices)
    rates = np.zeros((count, count))
    for a in range(count):
        for b in range(count):
            if a != b:
                rates[a, b] = cluster.link(a, b).bytes_per_s
    return np.minimum(rates, rates.T)


def between(bandwidth: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K) mean bandwidth between the cards of two groups; all pairs between two nodes share one path."""
    member = np.eye(int(labels.max()) + 1)[labels]
    total = member.T @ bandwidth @ member
    counts = member.sum(axis=0)
    return np.asarray(total / np.outer(counts, counts) * (1 - np.eye(len(counts))))


def _flipped(prefills: tuple[bool, ...], index: int) -> tuple[bool, ...]:
    return tuple(not value if i == index else value for i, value in enumerate(prefills))
