"""HexGen: colocated replicas with asymmetric parallelism on mixed GPUs, found by dynamic programming and a genetic algorithm.

Jiang et al., "HexGen: Generative Inference of Large Language Model over Heterogeneous Environment" (ICML 2024,
arXiv 2311.11514), section 4.

* Inside a pipeline group: dynamic programming over stages and TP degrees, which may differ by stage (``shared.pipelines``).
* Over the cluster: a genetic algorithm on partitions of the GPUs, counted by (node, type). It starts from k-means on the
  matrix of communication times, mutates by merging, splitting and swapping, never crosses over (as the authors' optimiser),
  and drops offspring whose groups cannot hold the model before anything is priced.
* The objective is SLO attainment in simulation, the shortest queue taking the next request as in AlpaServe's simulator. The
  simulator is ours, and so is the cost model: the harness compares planners, not cost models.

Left out: the random ``bias`` gene that shifts layers between stages (here layers are balanced exactly within memory), and
batch sizes as genes (batches are continuous, as in every other system here; the paper's runtime batches statically).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared.kmeans import kmeans
from baselines.shared.layouts import Layouts
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.partitions import Genes, Group, add, canonical, dealt, merged, split, subtract, swapped
from baselines.shared.pipelines import DECODE_BATCH, describe, replica_of
from baselines.shared.rating import Rater, Rating
from baselines.shared.stages import Devices, Ends, Layout, StageBook, request_rate_per_s
from thunderserve.policy import Problem
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.plan import Batching, Flow, Phase, Plan

MESSAGE_BYTES = 2.0**20
"""Size at which the communication matrix is read."""
MUTATIONS: tuple[Callable[[Genes, np.random.Generator], Genes], ...] = (merged, split, swapped)
DRAWS = 20
"""Mutations drawn before a parent is given up on."""


@dataclass(frozen=True)
class System:
    """Options of the ``hexgen`` system."""

    population: int = 12
    offspring: int = 12
    """New partitions a generation."""
    generations: int = 20
    patience: int = 6
    """Generations without a better plan after which the search ends."""
    tournament: int = 3
    requests: int = 1000
    """Requests simulated to judge a partition."""
    max_stages: int = 8
    max_sequences: int = 256
    max_batched_tokens: int = 2048

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when the cluster does not hold the model."""
        search = Search(self, problem)
        best = search.run()
        rating = search.known[best.genes]
        notes = {
            "search": f"{search.generations} generations, {search.rater.evaluations} plans simulated, "
            f"{search.pipelines.searched} groups laid out",
            "estimate": f"attainment {rating.attainment:.3f} on {self.requests} requests",
            "replicas": "; ".join(describe(layout, problem.cluster) for layout in best.layouts),
        }
        return search.plan_of(best.layouts, notes)


class Scored(NamedTuple):
    """A partition that can run, and how it did."""

    rating: Rating
    genes: Genes
    layouts: tuple[Layout, ...]


class Search:
    """One run of the genetic algorithm: what it knows, and its random numbers."""

    def __init__(self, options: System, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.batching = Batching(
            policy="chunked", max_sequences=options.max_sequences, max_batched_tokens=options.max_batched_tokens
        )
        costs = Remembered(problem.costs)
        self.book = StageBook(problem.cluster, problem.model, costs, typical(problem), self.batching)
        self.pipelines = Layouts(self.book, options.max_stages)
        self.rater = Rater(problem, options.requests, costs)
        self.rng = np.random.default_rng(problem.seed)
        self.known: dict[Genes, Rating] = {}
        self.generations = 0
        inner, longest = Ends(first=False, last=False), self.book.load.longest
        self.room = [self.book.layer_room(site.devices[:1], inner, longest) for site in self.pipelines.sites]

    def run(self) -> Scored:
        """The best partition found. Raises ValueError if none can run."""
        population = self.first()
        stale = 0
        while self.generations < self.options.generations and stale < self.options.patience:
            self.generations += 1
            best = population[0].rating
            born = [self.mutated(self.chosen(population)) for _ in range(self.options.offspring)]
            population = self.survivors([one.genes for one in population] + born)
            stale = 0 if population[0].rating > best else stale + 1
        return population[0]

    def first(self) -> list[Scored]:
        """The population that k-means suggests, for every number of clusters up to the replicas that memory allows."""
        everything = tuple(len(site.devices) for site in self.pipelines.sites)
        points = np.log10(message_seconds(self.problem.cluster))
        most = int(self.layers(everything) / self.problem.model.num_layers)
        seeds: list[Genes] = [(everything,)]
        for k in range(1, min(most, len(points)) + 1):
            labels = kmeans(points, k, self.rng)
            clusters = [tuple(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)]
            groups = self.joined([self.counts(cluster) for cluster in clusters])
            seeds += [canonical(groups), canonical([part for group in groups for part in self.cut(group)])]
        population = self.survivors(seeds)
        if not population:
            name, model = self.problem.cluster.name, self.problem.model.name
            raise ValueError(f"hexgen: no group of the cards of {name} holds {model} and one longest request")
        return population

    def survivors(self, candidates: list[Genes]) -> list[Scored]:
        """The best of the candidates that can run, best first; equals by their genes."""
        scored = []
        for genes in dict.fromkeys(candidates):
            layouts = self.layouts(genes)
            if layouts is not None:
                scored.append(Scored(self.rating(genes, layouts), genes, layouts))
        return sorted(scored, reverse=True)[: self.options.population]

    def chosen(self, population: list[Scored]) -> Genes:
        """The winner of a tournament."""
        entrants = self.rng.integers(len(population), size=self.options.tournament)
        return max((population[int(index)] for index in entrants), key=lambda one: (one.rating, one.genes)).genes

    def mutated(self, genes: Genes) -> Genes:
        """A partition one mutation away whose groups all have room for the model; the same one if none was drawn."""
        for _ in range(DRAWS):
            mutate = MUTATIONS[int(self.rng.integers(len(MUTATIONS)))]
            child = mutate(genes, self.rng)
            if child != genes and all(self.holds(group) for group in child):
                return child
        return genes

    def rating(self, genes: Genes, layouts: tuple[Layout, ...]) -> Rating:
        """Simulated, once."""
        if genes not in self.known:
            self.known[genes] = self.rater.rate(self.plan_of(layouts, {}))
        return self.known[genes]

    def layers(self, group: Group) -> float:
        """Layers that the cards of a group hold at most."""
        return sum(count * room for count, room in zip(group, self.room, strict=True))

    def holds(self, group: Group) -> bool:
        """Early pruning by memory: a bound, for collectives take room as well and stages have whole layers."""
        return self.layers(group) >= self.problem.model.num_layers

    def counts(self, devices: Devices) -> Group:
        """The group of some cards."""
        return tuple(sum(device in devices for device in site.devices) for site in self.pipelines.sites)

    def joined(self, groups: list[Group]) -> list[Group]:
        """Merge every group that cannot hold the model with the smallest of those it shares most sites with."""
        groups = sorted(groups, key=self.layers)
        while len(groups) > 1 and not self.holds(groups[0]):
            small = groups.pop(0)
            shared = [sum(min(a, b) for a, b in zip(small, other, strict=True)) for other in groups]
            place = max(range(len(groups)), key=lambda i: (shared[i], -self.layers(groups[i])))
            groups[place] = add(groups[place], small)
            groups.sort(key=self.layers)
        return groups

    def cut(self, group: Group) -> Iterator[Group]:
        """Halve a group as long as both halves hold the model."""
        half = tuple(count // 2 for count in group)
        if self.holds(half):
            yield from self.cut(half)
            yield from self.cut(subtract(group, half))
        else:
            yield group

    def layouts(self, genes: Genes) -> tuple[Layout, ...] | None:
        """The pipelines of all groups; None if one has none."""
        found = []
        for devices in dealt(self.pipelines.sites, genes):
            priced = self.pipelines.best(devices, "latency")
            if priced is None:
                return None
            found.append(priced.layout)
        return tuple(found)

    def plan_of(self, layouts: tuple[Layout, ...], notes: dict[str, str]) -> Plan:
        """The plan of these pipelines; shares follow what each sustains, the router looks at the queues."""
        rates = [request_rate_per_s(self.book, layout, DECODE_BATCH) for layout in layouts]
        total = sum(rates)
        return Plan(
            system="hexgen",
            replicas=tuple(replica_of(layout, Phase.BOTH, self.batching) for layout in layouts),
            flows=tuple(Flow(prefill=i, decode=i, share=rate / total) for i, rate in enumerate(rates)),
            router="join_shortest_queue",
            notes=notes,
        )


def message_seconds(cluster: Cluster) -> NDArray[np.float64]:
    """(N, N) seconds of one message between two cards, the slower way; a card is to itself as the nearest pair is."""
    count = len(cluster.devices)
    seconds = np.zeros((count, count))
    for a in range(count):
        for b in range(count):
            if a != b:
                seconds[a, b] = cluster.link(a, b).seconds(MESSAGE_BYTES)
    slower = np.maximum(seconds, seconds.T)
    least = slower.min(where=slower > 0, initial=1.0)
    return np.asarray(np.maximum(slower, least))
