"""The event loop. At one instant: transfers that end, then arrivals, then replicas by index.

Under the static router, groups of replicas that share neither requests nor links are served one after the other, each from
memory that stays in cache.
"""

from __future__ import annotations

import numpy as np

from thunderserve.serving.blocks import growth
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.lists import push_back
from thunderserve.serving.pool import NONE, REJECTED, Ints
from thunderserve.serving.router import Router, give, least_loaded, next_by_share
from thunderserve.simulator.cruise import settle
from thunderserve.simulator.events import take_turn
from thunderserve.simulator.replica import land, launch, nudge, resume, steps_begun
from thunderserve.simulator.transfer import offer, pull, receive
from thunderserve.simulator.world import World

SHARES, SHORTEST_QUEUE, FEWEST_TOKENS = int(Router.SHARES), int(Router.SHORTEST_QUEUE), int(Router.FEWEST_TOKENS)


@kernel
def chain_all(world: World) -> None:
    """Let all requests arrive, in their order; they are routed as they come."""
    requests = world.pool.requests
    for request in range(len(requests)):
        requests[request].next = request + 1 if request + 1 < len(requests) else NONE
    world.counters[0].upcoming = 0 if len(requests) > 0 else NONE


@kernel
def route_all(world: World, group_of_route: Ints, heads: Ints, tails: Ints) -> None:
    """Route all requests by the shares, and chain those of each group in the order of arrival.

    ``heads`` and ``tails`` (one entry a group of routes) receive the ends of the chains; NONE for an empty one.
    """
    requests = world.pool.requests
    heads[:] = NONE
    for request in range(len(requests)):
        row = requests[request]
        route = next_by_share(world.pool, world.routes, world.counters[0].routed, row.prompt_tokens, row.output_tokens)
        row.route = route
        if route == NONE:
            row.status = REJECTED
            continue
        world.counters[0].routed += 1
        world.routes[route].count += 1
        group = group_of_route[route]
        if heads[group] == NONE:
            heads[group] = request
        else:
            requests[tails[group]].next = request
        tails[group] = request


@kernel
def advance(world: World, events: int) -> int:
    """Let at most ``events`` events happen; return how many did."""
    replicas, requests, counters = world.pool.replicas, world.pool.requests, world.counters[0]
    for event in range(events):
        first = replicas[0].slot
        replica_s = replicas[first].next_s
        arrival_s = requests[counters.upcoming].arrival_s if counters.upcoming != NONE else np.inf
        transfer_s = world.transfers[0].end_s if counters.transfers > 0 else np.inf
        if transfer_s < np.inf and transfer_s <= arrival_s and transfer_s <= replica_s:
            receive(world, transfer_s)
        elif arrival_s < np.inf and arrival_s <= replica_s:
            _arrive(world, arrival_s)
        elif replica_s < np.inf:
            _look_at(world, first, replica_s)
        else:
            return event
    return events


@inlined
def _look_at(world: World, index: int, now: float) -> None:
    inbox = world.pool.replicas[index].inbox
    take_turn(world, index, now)
    land(world, index, now)
    offer(world, index, now)
    if inbox.count > 0:
        pull(world, index, now)
    launch(world, index, now)
    if inbox.count > 0:  # a preempted sequence that was in the way may have been admitted
        pull(world, index, now)


@inlined
def _arrive(world: World, now: float) -> None:
    """The upcoming request arrives, is given to a route, and waits at its prefill replica."""
    requests, counters = world.pool.requests, world.counters[0]
    request = counters.upcoming
    row = requests[request]
    counters.upcoming = row.next
    if row.route == NONE:
        _route(world, request, now)
    if row.route == NONE:
        return
    route = world.routes[row.route]
    waiting = world.pool.replicas[route.prefill].waiting
    push_back(waiting, requests, request)
    give(world.pool, route, row)
    if waiting.count == 1:
        nudge(world, route.prefill, now)


@kernel
def _route(world: World, request: int, now: float) -> None:
    """Choose the route of ``request`` by what the replicas are doing, or reject it."""
    row = world.pool.requests[request]
    for index in range(len(world.pool.replicas)):
        world.pool.replicas[index].load = _load(world, index, now)
    row.route = least_loaded(world.pool, world.routes, row.prompt_tokens, row.output_tokens)
    if row.route == NONE:
        row.status = REJECTED
    else:
        world.routes[row.route].count += 1


@kernel
def _load(world: World, index: int, now: float) -> float:
    """What the router compares: requests, prompt tokens, or the part of the KV blocks held (a leap: by the steps begun)."""
    pool, replica, router = world.pool, world.pool.replicas[index], world.counters[0].router
    if router == SHORTEST_QUEUE:
        return float(replica.pending_requests)
    if router == FEWEST_TOKENS:
        return float(replica.pending_tokens)
    if replica.cruising == 1:
        settle(world, index, now)
        resume(world, index, now)
    held = replica.blocks - replica.free
    if replica.leap != NONE:
        lane = pool.lanes[replica.leap]
        begun = steps_begun(world, index, now)
        held -= growth(pool, replica, lane, begun, lane.batch_steps - begun)
    return float(held / replica.blocks)
