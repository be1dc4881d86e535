from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.serving.pool import NONE, Limits, empty_pool, new_requests
from thunderserve.serving.router import can_serve, least_loaded, new_routes, next_by_share

LIMITS = Limits(False, 1, 16, 100, 1, 8, 2048)


def choose(pool, routes, count: int) -> list[int]:
    chosen = []
    for given_out in range(count):
        route = next_by_share(pool, routes, given_out, 10, 10)
        routes["count"][route] += 1
        chosen.append(int(route))
    return chosen


def test_smooth_weighted_round_robin_interleaves_as_nginx_does() -> None:
    """Weights 5, 1, 1: a a b a c a a, the example in nginx's commit of smooth weighted round robin."""
    pool = empty_pool([LIMITS] * 3, new_requests(0))
    routes = new_routes([(0, 0, 5.0), (1, 1, 1.0), (2, 2, 1.0)])
    assert choose(pool, routes, 14) == [0, 0, 1, 0, 2, 0, 0] * 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_shares_are_kept_at_all_times(weights: list[int]) -> None:
    pool = empty_pool([LIMITS] * len(weights), new_requests(0))
    routes = new_routes([(i, i, float(weight)) for i, weight in enumerate(weights)])
    chosen = choose(pool, routes, sum(weights))
    for length in range(1, len(chosen) + 1):
        for index, weight in enumerate(weights):
            assert abs(chosen[:length].count(index) - length * weight / sum(weights)) < len(weights)
    assert [chosen.count(index) for index in range(len(weights))] == weights


def test_the_least_loaded_prefill_then_decode_and_ties_to_the_first() -> None:
    pool = empty_pool([LIMITS] * 4, new_requests(0))
    routes = new_routes([(0, 2, 1.0), (0, 3, 1.0), (1, 2, 1.0), (1, 3, 1.0)])
    pool.replicas["load"] = [2, 1, 5, 4]
    assert least_loaded(pool, routes, 10, 10) == 3
    pool.replicas["load"] = [1, 1, 4, 4]
    assert least_loaded(pool, routes, 10, 10) == 0


@pytest.mark.parametrize(
    ("prompt", "output", "colocated", "split"),
    [(1584, 1, True, True), (1585, 1, False, False), (1500, 85, True, True), (1500, 86, False, False)],
)
def test_a_replica_serves_what_its_blocks_can_hold_at_the_end(prompt, output, colocated, split) -> None:
    """99 blocks of 16 tokens beside the watermark; the last output token is never in cache."""
    pool = empty_pool([LIMITS, LIMITS], new_requests(0))
    routes = new_routes([(0, 0, 1.0), (0, 1, 1.0)])
    assert can_serve(pool, routes[0], prompt, output) == colocated
    assert can_serve(pool, routes[1], prompt, output) == split


def test_prefill_needs_room_for_the_prompt_alone() -> None:
    pool = empty_pool([LIMITS._replace(blocks=10), LIMITS], new_requests(0))
    routes = new_routes([(0, 0, 0.5), (0, 1, 0.5)])
    assert not can_serve(pool, routes[0], 100, 100)
    assert can_serve(pool, routes[1], 100, 100)
    assert [next_by_share(pool, routes, n, 100, 100) for n in range(3)] == [1, 1, 1]
    assert next_by_share(pool, routes, 0, 10_000, 10) == NONE
    assert np.isclose(routes["share"].sum(), 1)
