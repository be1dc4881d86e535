"""Helix: layers placed on mixed GPUs by a MILP that maximises the flow of requests through them.

Mei et al., "Helix: Serving Large Language Models over Heterogeneous GPUs and Network via Max-Flow" (ASPLOS 2025,
arXiv 2406.01566), sections 4 and 5.

* Units (the paper's compute nodes) are tensor-parallel groups of one GPU type on one node. A unit holds consecutive layers,
  with at most half of its memory for their weights (the authors' rule), and passes as many requests a second as its layers,
  its batches and the way to its nearest neighbour allow; an edge as many as its link carries activations of. The MILP
  (``shared.placement_milp``) chooses where each unit's layers start, how many they are, and which edges are used, such that
  the flow from source to sink is largest.
* Starting placements by heuristics, as the authors have: Petals (each unit takes the stretch of layers served worst), Swarm
  (equal stages, filled evenly) and separate pipelines by GPU type. scipy's solver takes no starting point, so they compete
  with its answer instead, and end the search at once where they are within ``gap`` of the bound (the authors' early stop).
  To stay within seconds the MILP places layers in blocks (a tenth of the model); within a chain single layers are dealt anew.
  Above ``max_units`` units the cluster is partitioned first (the authors do so from 40).
* Requests: smooth weighted round robin in proportion to the flow (the paper interleaves likewise).

The restriction: the paper lets a unit serve several pipelines at once, entering its layers anywhere (partial inference), and
gives each request a pipeline of its own. A plan has disjoint replicas, so here every unit has at most one predecessor and one
successor and holds exactly the layers it computes: the flow is the best over *disjoint chains*, a lower bound of Helix's. Of
the placements found (heuristics and MILP) the one is taken that passes most requests with the sequences its memory holds: a
pipeline with few sequences waits for its hops, which a flow does not see. Left out: masking of units whose KV is nearly full.
Throughputs come from the problem's cost model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from baselines.shared.chains import Chain, Network, Placement, Unit, heuristics, total
from baselines.shared.cuts import spectral
from baselines.shared.extras import require
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.pipelines import describe, replica_of, sites
from baselines.shared.placement_milp import Limits, solve
from baselines.shared.stages import Devices, Ends, Layout, StageBook, colocated_rate_per_s
from thunderserve.policy import Problem
from thunderserve.spec.plan import Batching, Flow, Phase, Plan

HOP_BATCH = 16
"""Sequences of one decode step when edges are compared."""


@dataclass(frozen=True)
class System:
    """Options of the ``helix`` system."""

    tp: int = 4
    """Most cards of a unit (the paper makes a unit of each machine); the rest of a node makes smaller units."""
    weight_share: float = 0.5
    """Share of a card's memory for weights and KV that the weights may take; all of it where nothing fits otherwise."""
    max_units: int = 16
    """Units of one MILP; larger clusters are partitioned."""
    degree: int = 8
    """Edges kept from each unit, the fastest (the paper prunes likewise)."""
    blocks: int = 10
    """Blocks of layers that the MILP places; a model with fewer layers is placed layer by layer."""
    nodes: int = 200
    """Branch-and-bound nodes of one MILP."""
    gap: float = 0.02
    """Relative distance to the bound at which a placement is good enough."""
    seconds: float = 30.0
    """Safety net of one MILP. Where it ends a search, plans may differ from machine to machine, and the notes say so."""
    max_sequences: int = 256
    max_batched_tokens: int = 2048

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when no chain of units holds the model."""
        require("scipy.optimize", "helix")
        batching = Batching(
            policy="chunked", max_sequences=self.max_sequences, max_batched_tokens=self.max_batched_tokens
        )
        costs = Remembered(problem.costs)
        book = StageBook(problem.cluster, problem.model, costs, typical(problem), batching)
        for share in (self.weight_share, 1.0):
            placed = self._placed(book, share)
            if placed.placement:
                return self._plan(problem, batching, placed)
        raise ValueError(f"helix: no chain of units of {problem.cluster.name} holds {problem.model.name}")

    def _placed(self, book: StageBook, share: float) -> Placed:
        """The best placement of layers whose weights take up to ``share`` of the memory; maybe of no chain."""
        network = network_of(book, self.tp, share, self.degree)
        known = heuristics(network)
        if max(map(total, known.values())) >= (1 - self.gap) * network.bound:
            return _fastest(book, network, known, f"no MILP, within {self.gap:.0%} of the bound")
        solved: list[Chain] = []
        stops = []
        for part in _parts(network, self.max_units):
            inside = _restricted(network, part)
            solution = solve(coarse(inside, self.blocks), Limits(self.nodes, self.gap, self.seconds))
            stops.append(solution.stopped)
            dealt = [inside.chain(inside.ordered(chain.units)) for chain in solution.placement]
            placements = [tuple(chain for chain in dealt if chain is not None), *heuristics(inside).values()]
            chosen = max(placements, key=total)
            solved += [Chain(tuple(part[i] for i in chain.units), chain.layers, chain.flow) for chain in chosen]
        known["milp"] = tuple(solved)
        return _fastest(book, network, known, f"{len(stops)} MILP ended by {', '.join(dict.fromkeys(stops))}")

    def _plan(self, problem: Problem, batching: Batching, best: Placed) -> Plan:
        layouts = [layout_of(best.network, chain) for chain in best.placement]
        rate, flow, bound = sum(best.rates), total(best.placement), best.network.bound
        notes = {
            "search": f"{best.found}; {len(best.network.units)} units of up to {self.tp} cards",
            "estimate": f"flow {flow:.3f} requests/s over disjoint chains, bound {bound:.3f}; {rate:.3f} with the "
            "sequences that fit",
            "replicas": "; ".join(describe(layout, problem.cluster) for layout in layouts),
        }
        return Plan(
            system="helix",
            replicas=tuple(replica_of(layout, Phase.BOTH, batching) for layout in layouts),
            flows=tuple(Flow(prefill=i, decode=i, share=one / rate) for i, one in enumerate(best.rates)),
            router="flows",
            notes=notes,
        )


class Placed(NamedTuple):
    """A placement on a network of units, the requests a second of its chains, and how it was found."""

    network: Network
    placement: Placement
    rates: tuple[float, ...]
    found: str


def layout_of(network: Network, chain: Chain) -> Layout:
    """The pipeline of a chain."""
    return tuple((network.units[i].devices, n) for i, n in zip(chain.units, chain.layers, strict=True))


def _fastest(book: StageBook, network: Network, known: dict[str, Placement], how: str) -> Placed:
    """The placement that passes most once it is priced whole: with the sequences its memory holds and its own hops."""
    rates = {
        name: tuple(min(chain.flow, colocated_rate_per_s(book, layout_of(network, chain))) for chain in placement)
        for name, placement in known.items()
    }
    best = max(rates, key=lambda name: sum(rates[name]))
    able = [(chain, rate) for chain, rate in zip(known[best], rates[best], strict=True) if rate > 0]
    return Placed(network, tuple(chain for chain, _ in able), tuple(rate for _, rate in able), f"{best}; {how}")


def network_of(book: StageBook, tp: int, share: float, degree: int) -> Network:
    """Units of ``tp`` cards (fewer where a node has fewer left) and the fastest ``degree`` edges from each."""
    units = []
    for number, site in enumerate(sites(book.cluster)):
        rest = site.devices
        while rest:
            width = max(t for t in (1, 2, 4, 8) if t <= min(tp, len(rest)) and book.model.num_heads % t == 0)
            units.append(Unit(rest[:width], site.gpu, number, ()))
            rest = rest[width:]
    links: dict[tuple[int, int], float] = {}
    for a, unit in enumerate(units):
        carried = {
            b: 1 / book.request_hop_s(unit.devices, other.devices, HOP_BATCH) for b, other in enumerate(units) if b != a
        }
        nearest = sorted(carried, key=lambda b: (-carried[b], b))[:degree]
        links |= {(a, b): carried[b] for b in sorted(nearest)}
        wait_s = 1 / carried[nearest[0]] if nearest else 0.0
        units[a] = unit._replace(rates=rates(book, unit.devices, share, wait_s))
    return Network(tuple(units), links, book.model.num_layers)


def rates(book: StageBook, devices: Devices, share: float, wait_s: float) -> tuple[float, ...]:
    """Requests a second of a unit with 1, 2 ... layers, at the batch its memory allows; as many as it can hold.

    A pipeline of such units has L / layers stages and one batch a stage, between which the sequences that fit are divided. A
    unit also waits while activations travel, ``wait_s`` a request, unless it holds the whole model.
    """
    inner, load, whole = Ends(first=False, last=False), book.load, book.model.num_layers
    found: list[float] = []
    for layers in range(1, book.max_layers(devices, inner, load.longest, share) + 1):
        held = book.kv_tokens(devices, layers, inner) / (load.prompt_tokens + load.output_tokens)
        batch = min(max(int(held * layers / whole), 1), book.batching.max_sequences)
        rate = 1 / (book.request_s(devices, layers, batch, last=False) + (wait_s if layers < whole else 0.0))
        found.append(min(rate, found[-1]) if found and layers < whole else rate)
    return tuple(found)


def _parts(network: Network, most: int) -> list[tuple[int, ...]]:
    """Units in parts of about ``most``, well connected inside."""
    count = len(network.units)
    if count <= most:
        return [tuple(range(count))]
    weights = np.zeros((count, count))
    for (a, b), rate in network.links.items():
        weights[a, b] = rate
    sizes = np.array([max(unit.most, 1) for unit in network.units], dtype=float)
    labels = spectral(np.minimum(weights, weights.T), sizes, -(-count // most))
    return [tuple(np.flatnonzero(labels == part).tolist()) for part in range(int(labels.max()) + 1)]


def coarse(network: Network, blocks: int) -> Network:
    """The same network with layers in blocks, none of them smaller than a layer."""
    size = max(-(-network.num_layers // blocks), 1)
    units = tuple(unit._replace(rates=unit.rates[size - 1 :: size]) for unit in network.units)
    return Network(units, network.links, -(-network.num_layers // size))


def _restricted(network: Network, part: tuple[int, ...]) -> Network:
    """The network of some units, numbered anew."""
    place = {unit: number for number, unit in enumerate(part)}
    links = {(place[a], place[b]): rate for (a, b), rate in network.links.items() if a in place and b in place}
    return Network(tuple(network.units[i] for i in part), links, network.num_layers)
