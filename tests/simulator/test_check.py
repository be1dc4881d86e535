from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scenarios import Scenario, scenarios, step_table

from thunderserve.serving.pool import REJECTED, Limits
from thunderserve.simulator.check import check
from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup
from thunderserve.simulator.loop import advance, chain_all
from thunderserve.simulator.world import World


def in_steps(scenario: Scenario) -> World:
    """All requests, one event at a time, the books checked after each."""
    fleet = Fleet(scenario.replicas, scenario.routes, scenario.router, scenario.links)
    world = fleet.world(scenario.arrivals, scenario.prompts, scenario.outputs, flights=1)  # recorded runs do not cruise
    world.counters["router"] = max(1, scenario.router)  # routed as they come
    chain_all(world)
    check(world)
    while advance(world, 1):
        check(world)
    return world


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_the_books_balance_after_every_event(scenario: Scenario) -> None:
    world = in_steps(scenario)
    rows, replicas = world.pool.requests, world.pool.replicas
    assert set(rows["status"]) <= {0, 1}
    assert (replicas["free"] == replicas["blocks"]).all()
    assert (replicas["pending_requests"] == 0).all()
    assert (replicas["pending_tokens"] == 0).all()
    assert (replicas["resident"] == 0).all()
    assert (world.pool.ints[: world.pool.lanes["residue0"][0]] >= 0).all()
    finished = rows[rows["status"] == 0]
    assert (finished["prefill_start_s"] >= finished["arrival_s"]).all()
    assert (finished["first_token_s"] >= finished["prefill_start_s"]).all()
    assert (finished["finish_s"] >= finished["first_token_s"]).all()
    moved = finished[np.isfinite(finished["transfer_end_s"])]
    early = world.routes["layers"][moved["route"]] > 0
    assert (moved["transfer_start_s"] >= np.where(early, moved["prefill_start_s"], moved["first_token_s"])).all()
    assert (moved["transfer_end_s"] >= moved["first_token_s"]).all()
    assert (moved["finish_s"] > moved["transfer_end_s"]).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda pool: pool.replicas["free"].__isub__(1), "blocks"),
        (lambda pool: pool.lanes["context"].__iadd__(1), "context"),
        (lambda pool: pool.requests["previous"].__setitem__(0, 7), "link back"),
        (lambda pool: pool.lanes["count"].__iadd__(1), "count"),
        (lambda pool: pool.requests["status"].__setitem__(0, REJECTED), "requests"),
        (lambda pool: pool.replicas["pending_requests"].__iadd__(1), "pending"),
    ],
)
def test_a_spoiled_book_is_noticed(spoil, message) -> None:
    setup = ReplicaSetup(step_table(np.random.default_rng(0), 1), Limits(False, 1, 4, 50, 0, 4, 64))
    fleet = Fleet([setup], [RouteSetup(0, 0)])
    world = fleet.world(np.array([0.0]), np.array([5]), np.array([9]))
    chain_all(world)
    for _ in range(3):
        advance(world, 1)
    check(world)
    spoil(world.pool)
    with pytest.raises(AssertionError, match=message):
        check(world)
