"""Disjoint chains of units through the layers of a model: rates, and the heuristics that Helix starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from baselines.shared.stages import Devices


class Unit(NamedTuple):
    """Cards that hold consecutive layers. Units of equal ``gpu`` and ``site`` are interchangeable."""

    devices: Devices
    gpu: str
    site: int
    rates: tuple[float, ...]
    """Requests a second with 1, 2 ... layers; not ascending, but for a unit that holds the whole model and needs no other.

    Their number is the most layers it can hold.
    """

    @property
    def most(self) -> int:
        """The most layers it holds."""
        return len(self.rates)


class Chain(NamedTuple):
    """A pipeline: units in order, their layers, and the requests a second that pass."""

    units: tuple[int, ...]
    layers: tuple[int, ...]
    flow: float


Placement = tuple[Chain, ...]


@dataclass(frozen=True)
class Network:
    """Units, the requests a second that each edge (from, to) carries, and the layers of the model.

    A pair of units without an edge is not joined: no chain goes that way.
    """

    units: tuple[Unit, ...]
    links: Mapping[tuple[int, int], float]
    num_layers: int

    @cached_property
    def bound(self) -> float:
        """No placement passes more: every request needs each layer once (the bound at which Helix stops early)."""
        best = [max((rate * (n + 1) for n, rate in enumerate(unit.rates)), default=0.0) for unit in self.units]
        return sum(best) / self.num_layers

    def chain(self, order: tuple[int, ...]) -> Chain | None:
        """The units in this order with the layers that let most requests pass; None if they do not hold the model.

        One layer goes at a time to the unit that is then the fastest: optimal, since rates fall with layers.
        """
        units = [self.units[i] for i in order]
        held = [unit.most for unit in units]
        if not units or min(held) < 1 or sum(held) < self.num_layers or len(units) > self.num_layers:
            return None
        layers = [1] * len(units)
        heap = [(-unit.rates[1], i) for i, unit in enumerate(units) if unit.most > 1]
        heapify(heap)
        for _ in range(self.num_layers - len(units)):
            _, i = heappop(heap)
            layers[i] += 1
            if layers[i] < units[i].most:
                heappush(heap, (-units[i].rates[layers[i]], i))
        return Chain(order, tuple(layers), self.flow(order, tuple(layers)))

    def flow(self, order: tuple[int, ...], layers: tuple[int, ...]) -> float:
        """Requests a second through a chain: the least of its units and edges."""
        inside = [self.units[i].rates[n - 1] for i, n in zip(order, layers, strict=True)]
        return min(inside + [self.links.get(edge, 0.0) for edge in pairwise(order)])

    def ordered(self, units: tuple[int, ...]) -> tuple[int, ...]:
        """The same units in an order of fast edges: the next is the nearest, from the best start.

        Order makes no difference to the units' own rates, for layers follow wherever the chain goes.
        """
        orders = []
        for start in units:
            order, rest = [start], set(units) - {start}
            while rest:
                order.append(max(sorted(rest), key=lambda i: self.links.get((order[-1], i), 0.0)))
                rest.remove(order[-1])
            orders.append(tuple(order))
        return max(orders, key=self._slowness)

    def _slowness(self, order: tuple[int, ...]) -> float:
        rates = [self.links.get(edge, 0.0) for edge in pairwise(order)]
        return -sum(1 / rate if rate > 0 else 1e9 for rate in rates)


def total(placement: Placement) -> float:
    """Requests a second through all chains."""
    return sum(chain.flow for chain in placement)


def heuristics(network: Network) -> dict[str, Placement]:
    """Placements by name: separate pipelines, Swarm, Petals. Those that make no chain are empty."""
    return {"separate": separate(network), "swarm": swarm(network), "petals": petals(network)}


def _made(network: Network, orders: Iterable[tuple[int, ...]]) -> Placement:
    chains = [network.chain(network.ordered(order)) for order in orders]
    return tuple(chain for chain in chains if chain is not None and chain.flow > 0)


def separate(network: Network) -> Placement:
    """Pipelines of one GPU type each, as short as they can be; what is left over makes mixed ones."""
    orders: list[tuple[int, ...]] = []
    rest: list[int] = []
    for gpu in dict.fromkeys(unit.gpu for unit in network.units):
        made, left = _filled(network, [i for i, unit in enumerate(network.units) if unit.gpu == gpu])
        orders += made
        rest += left
    return _made(network, orders + _filled(network, rest)[0])


def _filled(network: Network, units: list[int]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Cut a row of units into pipelines that hold the model, and what is left."""
    orders: list[tuple[int, ...]] = []
    current: list[int] = []
    for unit in (i for i in units if network.units[i].most):
        current.append(unit)
        if sum(network.units[i].most for i in current) >= network.num_layers:
            orders.append(tuple(current))
            current = []
    return orders, current


def swarm(network: Network) -> Placement:
    """Equal stages that the smallest unit can hold, units dealt to the stage with the least throughput (Ryabinin 2023)."""
    able = [i for i, unit in enumerate(network.units) if unit.most]
    if not able:
        return ()
    least = min(network.units[i].most for i in able)
    count = -(-network.num_layers // least)
    size = -(-network.num_layers // count)
    stages: list[list[int]] = [[] for _ in range(count)]
    served = [0.0] * count
    for i in sorted(able, key=lambda i: (-network.units[i].rates[size - 1], i)):
        place = served.index(min(served))
        stages[place].append(i)
        served[place] += network.units[i].rates[size - 1]
    return _made(network, zip(*stages, strict=False))


def petals(network: Network) -> Placement:
    """Each unit takes the stretch of layers that is served worst so far (Borzunov 2023, appendix D), then chains are read off."""
    served = [0.0] * network.num_layers
    spans: dict[int, tuple[int, int]] = {}
    for i, unit in enumerate(network.units):
        if unit.most:
            starts = range(network.num_layers - unit.most + 1)
            start = min(starts, key=lambda first: sorted(served[first : first + unit.most]))
            spans[i] = (start, start + unit.most)
            for layer in range(start, start + unit.most):
                served[layer] += unit.rates[-1]
    orders = []
    while order := _read_off(network, spans):
        orders.append(order)
        for i in order:
            del spans[i]
    return _made(network, orders)


def _read_off(network: Network, spans: dict[int, tuple[int, int]]) -> tuple[int, ...]:
    """A chain that covers all layers, each time the unit that reaches farthest; empty if there is none."""
    order: list[int] = []
    layer = 0
    while layer < network.num_layers:
        able = [i for i, (start, end) in spans.items() if start <= layer < end and i not in order]
        if not able:
            return ()
        order.append(max(able, key=lambda i: (spans[i][1], network.units[i].rates[-1], -i)))
        layer = spans[order[-1]][1]
    return tuple(order)
