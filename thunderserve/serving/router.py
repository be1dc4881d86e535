"""Which (prefill, decode) pair serves the next request. Deterministic: equal candidates are decided by their index.

A *route* is a row of ROUTE: a prefill and a decode replica (the same one if it is colocated) and its share of the traffic.
Routes ascend in (prefill, decode). A route is a candidate only if its replicas could ever hold the request.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thunderserve.serving.blocks import blocks_for
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import LEAVES, NONE, Pool, Row, Rows

ROUTE = np.dtype([("prefill", "i8"), ("decode", "i8"), ("share", "f8"), ("count", "i8")], align=True)


class Router(IntEnum):
    """How a route is chosen."""

    SHARES = 0  # the plan's shares, by smooth weighted round robin; does not look at the replicas
    SHORTEST_QUEUE = 1  # fewest requests that the replica has been given and not finished
    FEWEST_TOKENS = 2  # the same, counted in prompt tokens (Splitwise, ISCA 2024)
    LEAST_KV = 3  # smallest part of its KV blocks held


@kernel
def next_by_share(pool: Pool, routes: Rows, routed: int, prompt_tokens: int, output_tokens: int) -> int:
    """The route furthest behind its share when one more than ``routed`` requests are given out; NONE if none can serve it.

    Smooth weighted round robin: with n requests given out, route i is behind by ``n * share_i - count_i``. (nginx adds the
    shares up step by step; the closed form does not drift.)
    """
    best, most = NONE, -np.inf
    for index in range(len(routes)):
        route = routes[index]
        behind = (routed + 1) * route.share - route.count
        if behind > most and can_serve(pool, route, prompt_tokens, output_tokens):
            best, most = index, behind
    return best


@kernel
def least_loaded(pool: Pool, routes: Rows, prompt_tokens: int, output_tokens: int) -> int:
    """The route with the least loaded prefill replica and, among its routes, decode replica (by their ``load``)."""
    best, first, second = NONE, np.inf, np.inf
    for index in range(len(routes)):
        route = routes[index]
        prefill, decode = pool.replicas[route.prefill].load, pool.replicas[route.decode].load
        if prefill > first or (prefill == first and decode >= second):
            continue
        if can_serve(pool, route, prompt_tokens, output_tokens):
            best, first, second = index, prefill, decode
    return best


@kernel
def can_serve(pool: Pool, route: Row, prompt_tokens: int, output_tokens: int) -> bool:
    """Whether the route's replicas, when empty, have the blocks for this request."""
    if output_tokens == 1 or route.prefill == route.decode:
        return _can_hold(pool.replicas[route.prefill], prompt_tokens + output_tokens - 1)
    whole = _can_hold(pool.replicas[route.decode], prompt_tokens + output_tokens - 1)
    return whole and _can_hold(pool.replicas[route.prefill], prompt_tokens)


@inlined
def _can_hold(replica: Row, tokens: int) -> bool:
    return bool(blocks_for(tokens, replica.block_tokens) + replica.watermark_blocks <= replica.blocks)


@inlined
def give(pool: Pool, route: Row, row: Row) -> None:
    """Count a request as pending at the route's replicas. One that ends with its prefill never reaches the decode replica."""
    prefill = pool.replicas[route.prefill]
    prefill.pending_requests += 1
    prefill.pending_tokens += row.prompt_tokens
    if route.prefill != route.decode and row.output_tokens > 1:
        row.moves = LEAVES
        decode = pool.replicas[route.decode]
        decode.pending_requests += 1
        decode.pending_tokens += row.prompt_tokens


def new_routes(pairs: list[tuple[int, int, float]]) -> Rows:
    """ROUTE rows for (prefill, decode, share) triples; shares are scaled to sum to 1."""
    rows: NDArray[Any] = np.zeros(len(pairs), ROUTE)
    for name, column in zip(("prefill", "decode", "share"), zip(*pairs, strict=True), strict=True):
        rows[name] = column
    rows["share"] /= rows["share"].sum()
    return rows
