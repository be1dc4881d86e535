"""Alpa: one pipeline cut by an inter-operator DP over shardings from an intra-operator ILP, replicated over the cluster.

Zheng et al., "Alpa: Automating Inter- and Intra-Operator Parallelism for Distributed Deep Learning" (OSDI 2022), sections 4
and 5; for serving as in Li et al., "AlpaServe: Statistical Multiplexing with Model Parallelism for Deep Learning Serving"
(OSDI 2023), section 4.

* Intra-operator: an ILP shards every operator of a layer over the cards of a submesh, with the communication between
  operators (``shared.sharding``). A plan runs Megatron's sharding or none, so a submesh is offered to the DP only where that
  is what the ILP picks; where it would rather repeat work than communicate, the same cards serve as smaller submeshes. Data
  parallelism is no choice of the ILP (AlpaServe drops it: replicas do that).
* Inter-operator: stages are consecutive layers on submeshes of 1, 2, 4 or 8 cards of a node. For every bound t_max on the
  slowest stage, dynamic programming finds the stages with the least sum of times, and the pipeline that minimises
  sum t_i + (B - 1) t_max wins (``shared.pipeline_cut``), with B requests in flight instead of training's microbatches.
* Groups: AlpaServe cuts the cluster into groups of equal size and simulates each size. Here every size is simulated, and the
  one with the highest goodput wins. All GPU types of a mixed cluster are planned apart: Alpa assumes one.

Left out: operator clustering (all layers are alike), submeshes over several nodes, and many models that share groups. Cost
model and simulator are ours; an operator's share of a layer's time is its share of the floating-point operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from baselines.shared.goodput import Goodput, Judge, solo_server
from baselines.shared.instances import groups
from baselines.shared.load import typical
from baselines.shared.memo import Kind, Remembered, kind
from baselines.shared.pipeline_cut import Cut, Mesh, best_cut
from baselines.shared.pipelines import degrees, describe, replica_of
from baselines.shared.sharding import MEGATRON, Conversions, best_sharding, cost, operators
from baselines.shared.stages import Devices, Ends, Layout, StageBook, remember
from thunderserve.cost.network import stage_all_reduce_s
from thunderserve.policy import Problem
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Stage

GROUP_SIZES = (1, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True)
class System:
    """Options of the ``alpa`` system."""

    in_flight: int = 4
    """Requests in a pipeline at once, B of the objective: 1 minimises latency, many the slowest stage."""
    decode_batch: int = 16
    """Sequences that decode together while pipelines are compared."""
    group_size: int | None = None
    """Fix the cards of a group instead of trying all sizes."""
    requests: int = 400
    """Requests simulated for each rate and size tried."""
    max_sequences: int = 256
    max_batched_tokens: int = 2048

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when no group of one GPU type holds the model."""
        batching = Batching(
            policy="chunked", max_sequences=self.max_sequences, max_batched_tokens=self.max_batched_tokens
        )
        problem = replace(problem, costs=Remembered(problem.costs))
        book = StageBook(problem.cluster, problem.model, problem.costs, typical(problem), batching)
        cutter = Cutter(book, self.decode_batch, self.in_flight)
        layouts: list[Layout] = []
        rates: list[float] = []
        notes: dict[str, str] = {}
        for gpu in dict.fromkeys(device.gpu for device in problem.cluster.devices):
            tried = dict(self._tried(problem, cutter, gpu))
            if not tried:
                notes[gpu] = "no group holds the model"
                continue
            size = max(tried, key=lambda size: (tried[size].of_all, -size))
            layouts += tried[size].layouts
            rates += [tried[size].goodput.rate_per_s()] * len(tried[size].layouts)
            notes[gpu] = _note(problem, size, tried)
        if not layouts:
            raise ValueError(f"alpa: no group of one GPU type of {problem.cluster.name} holds {problem.model.name}")
        notes["search"] = (
            f"{cutter.programs} ILPs, {cutter.pipelines} pipelines cut, {cutter.refused} submeshes refused"
        )
        return Plan(
            system="alpa",
            replicas=tuple(replica_of(layout, Phase.BOTH, batching) for layout in layouts),
            flows=tuple(Flow(prefill=i, decode=i, share=rate / sum(rates)) for i, rate in enumerate(rates)),
            router="join_shortest_queue",
            notes=notes,
        )

    def _tried(self, problem: Problem, cutter: Cutter, gpu: str) -> Iterator[tuple[int, Tried]]:
        """Every group size that holds the model, with its pipelines and the goodput of the first."""
        judge = Judge(problem, self.requests, lambda met: met.joint)
        nodes = groups(problem.cluster, gpu)
        for size in GROUP_SIZES:
            if self.group_size not in (None, size):
                continue
            cut = [cutter.pipeline(group) for group in _grouped(nodes, size)]
            layouts = [layout for layout in cut if layout is not None]
            if layouts:
                first = replica_of(layouts[0], Phase.BOTH, cutter.book.batching)
                alone = solo_server(problem, first)
                yield size, Tried(layouts, judge.goodput(alone))


class Tried(NamedTuple):
    """A group size: the pipelines it makes, and what one of them sustains."""

    layouts: list[Layout]
    goodput: Goodput

    @property
    def of_all(self) -> Goodput:
        """What all of them sustain together; cards that make no group count for nothing."""
        count = len(self.layouts)
        return Goodput(count * self.goodput.goodput_per_s, count * self.goodput.throughput_per_s)


class Cutter:
    """Both passes of Alpa for one model."""

    def __init__(self, book: StageBook, decode_batch: int, in_flight: int) -> None:
        self.book, self.batch, self.in_flight = book, decode_batch, in_flight
        self.programs = self.refused = 0
        self._shards: dict[Kind, bool] = {}
        self._cuts: dict[tuple[Mesh, ...], Cut | None] = {}

    @property
    def pipelines(self) -> int:
        """Different rows of cards that were cut."""
        return len(self._cuts)

    def pipeline(self, cards: Devices) -> Layout | None:
        """The pipeline on all these cards, taken in order; None if they do not hold the model."""
        layers, meshes = self.book.model.num_layers, tuple(self.meshes(cards))
        cut = remember(self._cuts, meshes, lambda: best_cut(layers, len(cards), meshes, self.in_flight))
        if cut is None:
            return None
        return tuple((cards[mesh.start : mesh.start + mesh.cards], held) for mesh, held in cut.stages)

    def meshes(self, cards: Devices) -> Iterator[Mesh]:
        """Submeshes of a row of cards: inside a node, where a multiple of their size begins, if the ILP shards over them."""
        nodes = [self.book.cluster.devices[card].node for card in cards]
        for tp in degrees(self.book.model, len(cards)):
            for start in range(0, len(cards) - tp + 1, tp):
                devices = cards[start : start + tp]
                if len(set(nodes[start : start + tp])) == 1 and self.shards(devices):
                    yield Mesh(start, tp, self._seconds(devices, Ends(start == 0, start + tp == len(cards))))

    def _seconds(self, devices: Devices, ends: Ends) -> tuple[float, ...]:
        """Of a typical request with 1, 2 ... layers, as many as fit."""
        most = self.book.max_layers(devices, ends, self.book.load.longest)
        return tuple(self.book.request_s(devices, n, self.batch, last=ends.last) for n in range(1, most + 1))

    def shards(self, devices: Devices) -> bool:
        """Whether the ILP picks the sharding that a plan can run."""
        if len(devices) == 1:
            return True
        key = kind(self.book.cluster, devices)
        return remember(self._shards, key, lambda: self._chosen(devices))

    def _chosen(self, devices: Devices) -> bool:
        self.programs += 1
        book, model = self.book, self.book.model
        stage = Stage(devices=devices, num_layers=1)
        tokens = np.array([book.load.prompt_tokens, self.batch], dtype=np.float64)
        prompt_s, step_s = stage_all_reduce_s(book.cluster, stage, tokens * model.hidden_size * model.dtype_bytes)
        reduce_s = float(prompt_s + book.load.decode_steps / self.batch * step_s)
        two, one = (book.request_s(devices[:1], n, self.batch, last=False) for n in (2, 1))
        layer = operators(model, two - one, book.load.context)
        conversions = Conversions(reduce_s, reduce_s / 2, reduce_s / 2)
        least_s = best_sharding(layer, len(devices), conversions).seconds
        picked = cost(layer, MEGATRON, len(devices), conversions) <= least_s * (1 + 1e-9)  # ties are its own
        self.refused += not picked
        return picked


def _grouped(nodes: list[Devices], size: int) -> list[Devices]:
    """Rows of ``size`` cards, inside nodes first; what is left of the nodes is joined."""
    whole = [node[i : i + size] for node in nodes for i in range(0, len(node) - size + 1, size)]
    used = {card for row in whole for card in row}
    left = [card for node in nodes for card in node if card not in used]
    return whole + [tuple(left[i : i + size]) for i in range(0, len(left) - size + 1, size)]


def _note(problem: Problem, size: int, tried: dict[int, Tried]) -> str:
    rates = ", ".join(f"{n} cards: {one.of_all.goodput_per_s:.3g}" for n, one in sorted(tried.items()))
    best = tried[size].layouts
    return f"{len(best)} groups of {size}: {describe(best[0], problem.cluster)}; goodput of all by size in requests/s: {rates}"
