"""Asymmetric pipelines: TP degree and layers may differ by stage (HexGen, ICML 2024, section 4).

Given the cards of one replica, dynamic programming finds the order of the stages and their TP degrees; layers are even while
it does, and are then moved so that the slowest stage is as quick as memory allows. Its state is the cards used so far of
each (node, GPU type) and where the last stage stands, hence O(S * prod_k n_k) states as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Literal, NamedTuple

from baselines.shared.instances import even_layers
from baselines.shared.stages import Devices, Layout, StageBook, decode_rate_per_s, ends_of, latency_s, remember
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

Objective = Literal["latency", "throughput"]

DECODE_BATCH = 16
"""Sequences that decode together while layouts are compared, where throughput counts; all that fit, once they are priced."""


class Site(NamedTuple):
    """Cards of one type on one node, bridged neighbours next to each other."""

    node: str
    gpu: str
    devices: Devices


class Priced(NamedTuple):
    """A layout and what it scores: negative seconds of a request, or requests a second."""

    layout: Layout
    score: float


StageCost = Callable[[Devices, int], float]
"""Seconds of a stage of these cards that is the i-th of its pipeline."""
HopCost = Callable[[Devices, Devices], float]


def sites(cluster: Cluster, devices: Devices | None = None) -> tuple[Site, ...]:
    """The (node, type) groups of a cluster, or of some of its cards, in order of their first card."""
    chosen = range(len(cluster.devices)) if devices is None else devices
    found: dict[tuple[str, str], list[int]] = {}
    for device in sorted(chosen):
        card = cluster.devices[device]
        found.setdefault((card.node, card.gpu), []).append(device)
    partner = {bridge.first: bridge.second for bridge in cluster.bridges}
    partner |= {bridge.second: bridge.first for bridge in cluster.bridges}
    return tuple(Site(node, gpu, bridged(cards, partner)) for (node, gpu), cards in found.items())


def bridged(cards: list[int], partner: dict[int, int]) -> Devices:
    """The cards with whole bridged pairs first, so that cutting by twos keeps pairs together."""
    pairs = [card for card in cards if card < partner.get(card, -1) and partner[card] in cards]
    order = [end for card in pairs for end in (card, partner[card])]
    return tuple(order + [card for card in cards if card not in order])


def degrees(model: ModelSpec, largest: int) -> tuple[int, ...]:
    """TP degrees a stage may have: powers of two that divide the heads."""
    return tuple(t for t in (1, 2, 4, 8) if t <= largest and model.num_heads % t == 0)


class Node(NamedTuple):
    """A partial pipeline: its cost so far, its last stage, and what came before."""

    cost: float
    stage: Devices
    before: Node | None


State = tuple[tuple[int, ...], int]
"""Cards used of each site, and the site of the last stage (-1 before the first)."""


def best_order(
    groups: tuple[Site, ...],
    tp_degrees: tuple[int, ...],
    num_stages: int,
    stage_s: StageCost,
    hop_s: HopCost,
    objective: Objective,
) -> tuple[float, tuple[Devices, ...]] | None:
    """The cheapest pipeline of exactly ``num_stages`` stages that uses all cards of ``groups``; None if there is none.

    ``latency`` adds all stages and hops up; ``throughput`` takes the slowest stage, with the hop into it. A stage takes the
    next cards of one site. Exact as long as a hop depends on the two cards next to the cut alone: between nodes all cards share
    one path, and inside a node only neighbours have a bridge.
    """
    stage_memory: dict[tuple[Devices, int], float] = {}
    hop_memory: dict[tuple[int, int], float] = {}
    reached: dict[State, Node | None] = {((0,) * len(groups), -1): None}
    for index in range(num_stages):
        following: dict[State, Node | None] = {}
        for (used, _), node in reached.items():
            for site, tp in _choices(groups, used, tp_degrees, num_stages - index - 1):
                devices = groups[site].devices[used[site] : used[site] + tp]
                cost = remember(stage_memory, (devices, index), partial(stage_s, devices, index))
                if node is not None:
                    ends = (node.stage[-1], devices[0])
                    cost += remember(hop_memory, ends, partial(hop_s, node.stage, devices))
                    cost = max(node.cost, cost) if objective == "throughput" else node.cost + cost
                state = ((*used[:site], used[site] + tp, *used[site + 1 :]), site)
                known = following.get(state)
                if known is None or cost < known.cost:
                    following[state] = Node(cost, devices, node)
        reached = following
    whole = [node for node in reached.values() if node is not None]
    best = min(whole, key=lambda node: node.cost, default=None)
    return (best.cost, _stages(best)) if best is not None else None


def _choices(
    groups: tuple[Site, ...], used: tuple[int, ...], tp_degrees: tuple[int, ...], to_come: int
) -> Iterator[tuple[int, int]]:
    """(site, TP) of the next stage, such that the stages still to come can use up the rest."""
    left = sum(len(site.devices) for site in groups) - sum(used)
    for index, site in enumerate(groups):
        for tp in tp_degrees:
            rest = left - tp
            if used[index] + tp <= len(site.devices) and to_come <= rest <= to_come * tp_degrees[-1]:
                yield index, tp


def _stages(node: Node | None) -> tuple[Devices, ...]:
    stages: list[Devices] = []
    while node is not None:
        stages.append(node.stage)
        node = node.before
    return tuple(reversed(stages))


def busy_s(book: StageBook, cards: Devices, layers: int, objective: Objective, *, last: bool) -> float:
    """What a stage costs while layouts are compared: a typical request, or one decode step of many."""
    if objective == "latency":
        return book.request_s(cards, layers, 1, last=last)
    return book.decode(cards, DECODE_BATCH).seconds(layers, last=last)


def balance(book: StageBook, stages: tuple[Devices, ...], objective: Objective) -> Layout | None:
    """Layers such that the slowest stage is as quick as can be; None if the cards do not hold the model.

    One layer goes at a time to the stage that is then the quickest: optimal, since times rise with layers.
    """
    ends = ends_of(len(stages))
    caps = [book.max_layers(cards, end, book.load.longest) for cards, end in zip(stages, ends, strict=True)]
    if min(caps) < 1 or sum(caps) < book.model.num_layers or len(stages) > book.model.num_layers:
        return None

    def with_one_more(i: int) -> float:
        return busy_s(book, stages[i], layers[i] + 1, objective, last=ends[i].last)

    layers = [1] * len(stages)
    heap = [(with_one_more(i), i) for i in range(len(stages)) if caps[i] > 1]
    heapify(heap)
    for _ in range(book.model.num_layers - len(stages)):
        _, i = heappop(heap)
        layers[i] += 1
        if layers[i] < caps[i]:
            heappush(heap, (with_one_more(i), i))
    return tuple(zip(stages, layers, strict=True))


def find(book: StageBook, devices: Devices, objective: Objective, max_stages: int = 8) -> Priced | None:
    """The best layout of one replica on all these cards, over every number of stages; None if they do not hold the model.

    ``latency`` is of one typical request, alone. ``throughput`` counts typical requests that decode, as many as fit: that
    depends on memory, which the search by stage times does not see, so the layouts quick for one request compete as well.
    """
    groups = sites(book.cluster, devices)
    allowed = degrees(book.model, max(len(site.devices) for site in groups))
    searched: tuple[Objective, ...] = ("latency",) if objective == "latency" else ("throughput", "latency")
    found: Priced | None = None
    for count in range(1, min(max_stages, len(devices), book.model.num_layers) + 1):
        for sought in searched:
            layout = _with(book, groups, allowed, count, sought)
            if layout is not None:
                score = -latency_s(book, layout) if objective == "latency" else decode_rate_per_s(book, layout)
                if found is None or score > found.score:
                    found = Priced(layout, score)
    return found


def _with(
    book: StageBook, groups: tuple[Site, ...], allowed: tuple[int, ...], count: int, objective: Objective
) -> Layout | None:
    layers = even_layers(book.model.num_layers, count)

    def stage_s(cards: Devices, index: int) -> float:
        return busy_s(book, cards, layers[index], objective, last=index == count - 1)

    def hop_s(sender: Devices, receiver: Devices) -> float:
        # Where throughput counts, other batches keep the stages busy meanwhile.
        return book.request_hop_s(sender, receiver, 1) if objective == "latency" else 0.0

    order = best_order(groups, allowed, count, stage_s, hop_s, objective)
    return balance(book, order[1], objective) if order is not None else None


def replica_of(layout: Layout, phase: Phase, batching: Batching) -> Replica:
    """The layout as a replica of a plan."""
    stages = tuple(Stage(devices=devices, num_layers=layers) for devices, layers in layout)
    return Replica(stages=stages, phase=phase, batching=batching)


def describe(layout: Layout, cluster: Cluster) -> str:
    """``2xA40:38 + 2xA5000:22``: cards and layers, stage by stage."""
    return " + ".join(f"{len(cards)}x{cluster.devices[cards[0]].gpu}:{layers}" for cards, layers in layout)
