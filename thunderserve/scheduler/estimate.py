"""What closed forms expect of a solution: its configurations, its flows, the attainment and the capacity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from thunderserve.scheduler.attainment import Network
from thunderserve.scheduler.configuration import Configuration
from thunderserve.scheduler.deduce import Deducer
from thunderserve.scheduler.flows import orchestrate
from thunderserve.scheduler.pairs import Passage, Passages
from thunderserve.scheduler.sample import Sample
from thunderserve.scheduler.solution import Solution
from thunderserve.spec.plan import Phase

IDLE = 1e-4
"""Shares below this are dropped from a plan."""


@dataclass(frozen=True)
class Arc:
    """A flow from one group to another (or a colocated group to itself: no passage), by number in the solution."""

    prefill: int
    decode: int
    passage: Passage | None
    share: float = 0.0
    attainment: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """A solution with all that follows from it."""

    solution: Solution
    configurations: tuple[Configuration, ...]
    arcs: tuple[Arc, ...]
    """Those that carry something. Shares sum to 1."""
    attainment: float
    """Expected; shares that no capacity carries count as missed."""
    capacity_per_s: float
    """Requests a second that replicas and links could carry."""


@dataclass(frozen=True)
class Orchestration:
    """Options of the lower level's second half."""

    rounds: int = 3
    """Fixed-point rounds."""
    most: float = 0.97
    """Utilisation of a replica or a link that the program allows."""
    uniform: bool = False
    """Ablation: every pair gets the same share, nothing is solved."""
    arcs_a_side: int = 12
    """Decode groups a prefill group may send to, the nearest first."""


DEFAULT_ORCHESTRATION = Orchestration()


@dataclass(frozen=True)
class Estimator:
    """Turns solutions into estimates."""

    deduce: Deducer
    passages: Passages
    sample: Sample
    orchestration: Orchestration = DEFAULT_ORCHESTRATION

    def configure(self, solution: Solution) -> tuple[Configuration, ...] | None:
        """A configuration a group; None if one cannot hold the model."""
        found = [self.deduce(group) for group in solution]
        return None if None in found else tuple(one for one in found if one is not None)

    def __call__(self, solution: Solution, configurations: tuple[Configuration, ...] | None = None) -> Estimate | None:
        """The estimate of a solution (with its own configurations, or those of a running plan); None if it cannot run."""
        configured = configurations or self.configure(solution)
        if configured is None:
            return None
        arcs = self._arcs(configured)
        if not arcs:
            return None
        net = network(self.sample, configured, arcs)
        z, d, attainment, multiple = self._solve(net)
        total = float(z.sum())
        kept = tuple(
            Arc(arc.prefill, arc.decode, arc.passage, float(share / total), float(value))
            for arc, share, value in zip(arcs, z, d, strict=True)
            if share > IDLE * total
        )
        return Estimate(solution, configured, _whole(kept), attainment, multiple * self.sample.rate_per_s)

    def _solve(self, net: Network) -> tuple[np.ndarray, np.ndarray, float, float]:
        z, d, attainment, multiple = orchestrate(net, self.orchestration.rounds, self.orchestration.most)
        if self.orchestration.uniform:
            from thunderserve.scheduler.flows import worth

            z = np.full(len(z), 1 / len(z))
            attainment = worth(net, z, d)
        return z, d, attainment, multiple

    def _arcs(self, configured: tuple[Configuration, ...]) -> list[Arc]:
        prefills = [i for i, one in enumerate(configured) if one.phase is Phase.PREFILL]
        decodes = [j for j, one in enumerate(configured) if one.phase is Phase.DECODE]
        arcs = [Arc(i, i, None) for i, one in enumerate(configured) if one.phase is Phase.BOTH]
        pairs = [Arc(i, j, self._passage(configured[i], configured[j])) for i, j in product(prefills, decodes)]
        most = self.orchestration.arcs_a_side
        if len(decodes) > most or len(prefills) > most:
            pairs = _nearest(pairs, most, self.sample.mean_prompt)
        return arcs + pairs

    def _passage(self, prefill: Configuration, decode: Configuration) -> Passage:
        return self.passages(prefill.stages, decode.stages, prefill.codec_s_per_token, decode.codec_s_per_token)


def _nearest(arcs: list[Arc], most: int, tokens: float) -> list[Arc]:
    """The ``most`` fastest arcs of every side."""
    ranked = sorted(arcs, key=lambda arc: arc.passage.seconds(tokens) if arc.passage else 0.0)
    out: dict[int, int] = {}
    into: dict[int, int] = {}
    kept = []
    for arc in ranked:
        if out.get(arc.prefill, 0) < most or into.get(arc.decode, 0) < most:
            out[arc.prefill], into[arc.decode] = out.get(arc.prefill, 0) + 1, into.get(arc.decode, 0) + 1
            kept.append(arc)
    return sorted(kept, key=lambda arc: (arc.prefill, arc.decode))


def _whole(arcs: tuple[Arc, ...]) -> tuple[Arc, ...]:
    """The same arcs with shares that sum to 1."""
    total = sum(arc.share for arc in arcs)
    return tuple(Arc(arc.prefill, arc.decode, arc.passage, arc.share / total, arc.attainment) for arc in arcs)


def network(sample: Sample, configured: tuple[Configuration, ...], arcs: list[Arc]) -> Network:
    """The arrays of one solution."""
    sources = sorted({arc.prefill for arc in arcs})
    targets = sorted({arc.decode for arc in arcs})
    place_p = {group: place for place, group in enumerate(sources)}
    place_q = {group: place for place, group in enumerate(targets)}
    numbers: dict[tuple[str, str], int] = {}
    names = [arc.passage.links if arc.passage else () for arc in arcs]
    links = np.full((len(arcs), max(1, *map(len, names))), -1, dtype=np.int64)
    for row, arc_links in zip(links, names, strict=True):
        for place, link in enumerate(arc_links):
            row[place] = numbers.setdefault(link, len(numbers))
    return Network(
        rate_per_s=sample.rate_per_s,
        mean_prompt=sample.mean_prompt,
        mean_steps=sample.mean_steps,
        prompts=sample.prompts,
        steps=sample.steps,
        ttft_s=sample.strata_limits.ttft_s,
        tpot_s=sample.strata_limits.tpot_s,
        e2e_s=sample.strata_limits.e2e_s,
        latency_s=np.array([configured[i].latency_s for i in sources]),
        busy_s=np.array([configured[i].busy_s for i in sources]),
        busy_cv2=np.array([configured[i].busy_cv2 for i in sources]),
        decode_rate=np.array([configured[j].rate_per_s for j in targets]),
        decode_most=np.array([configured[j].rate_per_s.max() for j in targets]),
        cycle_s=np.array([configured[j].cycle_s for j in targets]),
        source=np.array([place_p[arc.prefill] for arc in arcs]),
        target=np.array([place_q[arc.decode] for arc in arcs]),
        shared=np.array([int(arc.passage is None) for arc in arcs]),
        alpha_s=np.array([arc.passage.alpha_s if arc.passage else 0.0 for arc in arcs]),
        wire_s=np.array([arc.passage.wire_s_per_token if arc.passage else 0.0 for arc in arcs]),
        codec_s=np.array([arc.passage.codec_s_per_token if arc.passage else 0.0 for arc in arcs]),
        links=links,
        num_links=len(numbers),
    )
