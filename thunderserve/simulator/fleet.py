"""The simulator's front door, in arrays: replicas and routes once, then any number of traces.

fleet = Fleet([ReplicaSetup(table, limits)], [RouteSetup(0, 0)])
requests = fleet.run(arrival_s, prompt_tokens, output_tokens).requests   # rows of serving.pool.REQUEST
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thunderserve.cost.step_table import StepTable
from thunderserve.serving.pool import NONE, Ints, Limits, Pool, Rows, empty_pool, new_requests
from thunderserve.serving.router import ROUTE, Router, new_routes
from thunderserve.simulator.dense import KNOTS, Layouts, joined
from thunderserve.simulator.loop import advance, chain_all, route_all
from thunderserve.simulator.world import COUNTERS, COURSE, FLIGHT, MACHINE, PATH, TRANSFER, Floats, World

FOREVER = 1 << 60


class ReplicaSetup(NamedTuple):
    """One replica: how long its steps take and what it may do. Share a table object between equal replicas."""

    table: StepTable
    limits: Limits


class RouteSetup(NamedTuple):
    """Prefill here, decode there (the same index: colocated), and how the KV travels: over all ``links`` at once."""

    prefill: int
    decode: int
    share: float = 1.0
    links: tuple[int, ...] = ()
    alpha_s: float = 0.0
    s_per_token: float = 0.0
    encode_s_per_token: float = 0.0
    decode_s_per_token: float = 0.0
    layers: int = 0
    """Above 0, keys and values leave in so many equal parts while the prompt is computed; 0: when it is finished."""


@dataclass(frozen=True)
class Outcome:
    """What happened: (N,) rows of REQUEST, (T,) rows of FLIGHT if asked for, and the final rows of REPLICA."""

    requests: Rows
    flights: Rows
    replicas: Rows
    routes: Rows


class Fleet:
    """Replicas and routes, laid out once. ``run`` keeps no state between traces.

    Fleets of the same tables can share ``layouts``. Raises ValueError for a route that names no replica, a limit below its
    least value, shares that are negative, and replicas that hand over in a circle.
    """

    def __init__(
        self,
        replicas: list[ReplicaSetup],
        routes: list[RouteSetup],
        router: Router = Router.SHARES,
        links: int = 0,
        *,
        layouts: Layouts | None = None,
    ) -> None:
        _check(replicas, routes, links)
        routes = sorted(routes, key=lambda route: (route.prefill, route.decode))
        self.router = router
        self.group_of_route = _groups(routes)
        limits = [replica.limits for replica in replicas]
        stages = sum(limit.stages for limit in limits)
        self.clocks = np.concatenate([np.full(stages + links, -np.inf), np.zeros(2 * stages)])
        pulled = {route.decode for route in routes if route.prefill != route.decode}
        self.room = sum(limits[index].stages * limits[index].max_sequences for index in pulled)

        decoding = {route.decode for route in routes}  # the others need no rows for decode batches
        widths = [one.limits.max_sequences if place in decoding else 0 for place, one in enumerate(replicas)]
        laid = Layouts() if layouts is None else layouts
        kinds = {(id(one.table), width): one.table for one, width in zip(replicas, widths, strict=True)}
        tables = joined([laid(table, width) for (_, width), table in kinds.items()])
        path_links = np.array([stages + link for route in routes for link in route.links], dtype=np.int64)
        self.pool = empty_pool(
            limits,
            new_requests(0),
            replica_rows=MACHINE,
            lane_rows=COURSE,
            spare=len(path_links) + len(tables.knots),
        )
        first = len(self.pool.ints) - len(path_links) - len(tables.knots)
        self.pool.ints[first:] = np.concatenate([path_links, tables.knots])
        self.paths = _paths(routes, first)
        self.reals = tables.reals
        order = {key: place for place, key in enumerate(kinds)}
        table_of = [order[id(one.table), width] for one, width in zip(replicas, widths, strict=True)]
        _complete_rows(self.pool.replicas, tables.rows[table_of], first + len(path_links), stages + links)

    def world(self, arrival_s: Floats, prompt_tokens: Ints, output_tokens: Ints, *, flights: int = 0) -> World:
        """A fresh simulation of these requests (N each, arrivals ascending, at least one token each way)."""
        requests = new_requests(len(arrival_s))
        requests["arrival_s"] = arrival_s
        requests["prompt_tokens"] = prompt_tokens
        requests["output_tokens"] = output_tokens
        counters = np.zeros(1, COUNTERS)
        counters["router"], counters["upcoming"], counters["turn_s"] = self.router, NONE, -np.inf
        return World(
            pool=Pool(self.pool.replicas.copy(), self.pool.lanes.copy(), requests, self.pool.ints.copy()),
            routes=self.paths.copy(),
            reals=self.reals,
            clocks=self.clocks.copy(),
            transfers=np.empty(self.room + 1, TRANSFER),
            flights=np.empty(flights, FLIGHT),
            counters=counters,
        )

    def run(self, arrival_s: Floats, prompt_tokens: Ints, output_tokens: Ints, *, series: bool = False) -> Outcome:
        """Serve the requests to the end. ``series`` also returns a row for every flight, by replica in order of time."""
        world = self._run(arrival_s, prompt_tokens, output_tokens, 1 if series else 0)
        if series:  # the first pass counted the rows
            world = self._run(arrival_s, prompt_tokens, output_tokens, int(world.counters["flights"][0]))
        return Outcome(world.pool.requests, world.flights, world.pool.replicas, world.routes)

    def _run(self, arrival_s: Floats, prompt_tokens: Ints, output_tokens: Ints, flights: int) -> World:
        world = self.world(arrival_s, prompt_tokens, output_tokens, flights=flights)
        if self.router != Router.SHARES:
            chain_all(world)
            advance(world, FOREVER)
            return world
        heads = np.empty(int(self.group_of_route.max()) + 1, np.int64)
        route_all(world, self.group_of_route, heads, np.empty_like(heads))
        for head in heads:
            world.counters["upcoming"] = head
            advance(world, FOREVER)
        return world


def _check(replicas: list[ReplicaSetup], routes: list[RouteSetup], links: int) -> None:
    for index, (table, limits) in enumerate(replicas):
        least = {"stages": 1, "block_tokens": 1, "blocks": 0, "watermark_blocks": 0, "max_sequences": 1}
        for name, value in (least | {"max_batched_tokens": 1}).items():
            if getattr(limits, name) < value:
                raise ValueError(f"replica {index}: {name} is {getattr(limits, name)}, but must be at least {value}")
        if len(table.fixed_s) != limits.stages:
            raise ValueError(f"replica {index}: {limits.stages} stages, but a step table for {len(table.fixed_s)}")
    if not routes or not all(route.share >= 0 for route in routes) or not any(route.share > 0 for route in routes):
        raise ValueError("routes need shares that are not negative and not all zero")
    for route in routes:
        if not (0 <= route.prefill < len(replicas) and 0 <= route.decode < len(replicas)):
            raise ValueError(
                f"a route joins replicas {route.prefill} and {route.decode}, but there are {len(replicas)}"
            )
        if any(not 0 <= link < links for link in route.links):
            raise ValueError(f"a route uses links {route.links}, but there are {links}")
    _check_no_circle([(route.prefill, route.decode) for route in routes if route.prefill != route.decode])


def _check_no_circle(pairs: list[tuple[int, int]]) -> None:
    """Replicas that hand over in a circle could each hold the blocks that the other waits for."""
    while pairs:
        receivers = {decode for _, decode in pairs}
        rest = [pair for pair in pairs if pair[0] in receivers]
        if len(rest) == len(pairs):
            raise ValueError(
                f"replicas hand over to each other in a circle: {sorted({one for pair in rest for one in pair})}"
            )
        pairs = rest


def _paths(routes: list[RouteSetup], link0: int) -> Rows:
    pairs = new_routes([(route.prefill, route.decode, route.share) for route in routes])
    paths = np.zeros(len(routes), PATH)
    for name in ROUTE.names or ():
        paths[name] = pairs[name]
    paths["links"] = [len(route.links) for route in routes]
    paths["link0"] = link0 + np.cumsum(paths["links"]) - paths["links"]
    for name in ("alpha_s", "s_per_token", "encode_s_per_token", "decode_s_per_token", "layers"):
        paths[name] = [getattr(route, name) for route in routes]
    return paths


def _complete_rows(replicas: Rows, tables: Rows, knots0: int, busy0: int) -> None:
    """Fill what the simulator adds to the replica rows; ``knots0`` is where the tables' knots begin in ``ints``."""
    replicas["table"] = tables
    for axis in KNOTS:
        replicas["table"][f"{axis}_knots"] += knots0
    replicas["leap"] = NONE
    replicas["next_s"] = np.inf
    replicas["place"] = replicas["slot"] = np.arange(len(replicas))
    replicas["stage0"] = np.cumsum(replicas["stages"]) - replicas["stages"]
    replicas["busy0"] = busy0 + replicas["stage0"]
    replicas["trial0"] = replicas["busy0"] + replicas["stages"].sum()


def _groups(routes: list[RouteSetup]) -> Ints:
    """(F,) number the sets of routes that share no replica and no link with the others."""
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(node: tuple[str, int]) -> tuple[str, int]:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for route in routes:
        for other in [("replica", route.decode), *(("link", link) for link in route.links)]:
            parent[root(other)] = root(("replica", route.prefill))
    numbers: dict[tuple[str, int], int] = {}
    return np.array([numbers.setdefault(root(("replica", route.prefill)), len(numbers)) for route in routes])
