"""Helix: its MILP against trying all placements, its heuristics, and the plans it makes."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from baselines.helix import System, coarse, network_of
from baselines.shared.chains import Network, Unit, heuristics, petals, separate, swarm, total
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.placement_milp import Limits, solve
from baselines.shared.rating import Rater
from baselines.shared.stages import StageBook
from thunderserve.spec.plan import Batching, Phase

EXACT = Limits(nodes=100_000, gap=0.0, seconds=120.0)


def random_network(units: int, layers: int, seed: int, *, slow_links: bool = False) -> Network:
    rng = np.random.default_rng(seed)
    made = []
    for index in range(units):
        most = int(rng.integers(0, layers + 2))
        speed = rng.uniform(1, 10)
        made.append(
            Unit((index,), str(index % 2), index, tuple(speed / (n + 0.3) for n in range(1, min(most, layers) + 1)))
        )
    top = 4.0 if slow_links else 50.0
    links = {(a, b): float(rng.uniform(0.1, top)) for a in range(units) for b in range(units) if a != b}
    return Network(tuple(made), links, layers)


def splits(layers: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(layers,)]
    return [(first, *rest) for first in range(1, layers - parts + 2) for rest in splits(layers - first, parts - 1)]


def best_by_trying_all(network: Network, free: tuple[int, ...]) -> float:
    """The largest flow over all sets of disjoint chains of the free units."""
    best = 0.0
    if not free:
        return best
    head, rest = free[0], free[1:]
    best = best_by_trying_all(network, rest)  # the first unit idles
    for size in range(1, len(free) + 1):
        for order in permutations(free, size):
            if head in order and size <= network.num_layers:
                inside = max(whole(network, order, layers) for layers in splits(network.num_layers, size))
                if inside > 0:
                    left = tuple(unit for unit in rest if unit not in order)
                    best = max(best, inside + best_by_trying_all(network, left))
    return best


def whole(network: Network, order: tuple[int, ...], layers: tuple[int, ...]) -> float:
    if any(n > network.units[i].most for i, n in zip(order, layers, strict=True)):
        return 0.0
    return network.flow(order, layers)


@settings(max_examples=25, deadline=None)
@given(units=st.integers(1, 4), layers=st.integers(1, 5), seed=st.integers(0, 2**31), slow_links=st.booleans())
def test_the_milp_finds_the_best_placement(units, layers, seed, slow_links) -> None:
    network = random_network(units, layers, seed, slow_links=slow_links)
    best = best_by_trying_all(network, tuple(range(units)))
    solution = solve(network, EXACT)
    assert total(solution.placement) == pytest.approx(best, rel=1e-5, abs=1e-9)
    assert solution.bound >= best * (1 - 1e-6)
    assert network.bound >= best * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(units=st.integers(1, 4), layers=st.integers(1, 7), seed=st.integers(0, 2**31))
def test_a_chain_gets_the_best_layers(units, layers, seed) -> None:
    network = random_network(units, layers, seed)
    order = tuple(range(units))
    best = max((whole(network, order, some) for some in splits(layers, units)), default=0.0) if units <= layers else 0.0
    chain = network.chain(order)
    assert (chain.flow if chain else 0.0) == pytest.approx(best, rel=1e-12)
    assert chain is None or sum(chain.layers) == layers


@settings(max_examples=60, deadline=None)
@given(units=st.integers(1, 9), layers=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_heuristics_make_disjoint_chains_within_the_bound(units, layers, seed) -> None:
    network = random_network(units, layers, seed)
    for placement in heuristics(network).values():
        used = [unit for chain in placement for unit in chain.units]
        assert len(used) == len(set(used))
        assert all(sum(chain.layers) == layers for chain in placement)
        assert total(placement) <= network.bound * (1 + 1e-9)


def test_each_heuristic_does_what_its_name_says() -> None:
    def unit(gpu, most, speed):
        return Unit((0,), gpu, 0, tuple(speed / n for n in range(1, most + 1)))

    links = {(a, b): 100.0 for a in range(6) for b in range(6) if a != b}
    network = Network((*[unit("big", 4, 8.0)] * 2, *[unit("small", 2, 4.0)] * 4), links, 4)
    assert sorted(tuple(sorted(chain.units)) for chain in separate(network)) == [(0,), (1,), (2, 3), (4, 5)]
    assert {len(chain.units) for chain in swarm(network)} == {2}  # equal stages of the two layers a small unit holds
    assert sorted(unit for chain in petals(network) for unit in chain.units) == [0, 1, 2, 3, 4, 5]


def test_limits_end_the_search_and_are_named() -> None:
    network = random_network(6, 12, 3)
    assert solve(network, Limits(nodes=1, gap=0.0, seconds=60.0)).stopped == "node limit"
    assert solve(network, Limits(nodes=1000, gap=0.0, seconds=1e-3)).stopped == "time limit"
    assert solve(random_network(2, 4, 3), EXACT).stopped == "optimal within the gap"


def test_units_hold_at_most_half_their_memory_in_weights() -> None:
    made = problem("cloud-32")
    book = StageBook(made.cluster, made.model, Remembered(made.costs), typical(made), Batching(policy="chunked"))
    half, full = (network_of(book, 4, share, 8) for share in (0.5, 1.0))
    layer_bytes = made.model.layer_parameters * made.model.dtype_bytes
    for small, large in zip(half.units, full.units, strict=True):
        memory = sum(made.cluster.gpu(device).memory_bytes for device in small.devices)
        assert small.most * layer_bytes <= 0.5 * memory
        assert small.most <= large.most
        in_chains = small.rates[: made.model.num_layers - 1]
        assert list(in_chains) == sorted(in_chains, reverse=True)
    assert sorted(device for unit in half.units for device in unit.devices) == list(range(32))


@pytest.mark.parametrize("tp", [2, 4])
def test_its_plans_can_run_and_repeat(tp) -> None:
    made = problem("cloud-20-four-types")
    system = System(tp=tp, nodes=20)
    plan = system.plan(made)
    assert plan == system.plan(made)
    plan.check(made.cluster, made.model)
    assert {replica.phase for replica in plan.replicas} == {Phase.BOTH}
    assert plan.router == "flows"
    assert max(stage.tp for replica in plan.replicas for stage in replica.stages) == tp
    assert Rater(made, 200).rate(plan).attainment > 0


def test_equal_cards_make_equal_pipelines() -> None:
    plan = System().plan(problem("inhouse-8xa100"))
    assert len({(replica.describe(), tuple(s.num_layers for s in replica.stages)) for replica in plan.replicas}) == 1
    assert len({round(flow.share, 9) for flow in plan.flows}) == 1


def test_the_milp_beats_the_heuristics_where_they_leave_room() -> None:
    """Units of two cards on mixed nodes: heuristics stop well below the bound, the MILP (in blocks of layers) comes nearer."""
    made = problem("cloud-20-four-types")
    book = StageBook(made.cluster, made.model, Remembered(made.costs), typical(made), Batching(policy="chunked"))
    network = network_of(book, 2, 0.5, 8)
    known = max(map(total, heuristics(network).values()))
    assert known < 0.9 * network.bound
    solution = solve(coarse(network, 10), Limits(nodes=200, gap=0.02, seconds=60.0))
    chains = [network.chain(network.ordered(chain.units)) for chain in solution.placement]
    assert known < sum(chain.flow for chain in chains if chain) <= network.bound
    assert all(sum(chain.layers) == made.model.num_layers for chain in chains if chain)


def test_blocks_of_layers_are_no_faster_than_their_layers() -> None:
    network = random_network(4, 12, 11)
    blocks = coarse(network, 5)
    assert blocks.num_layers == 4
    for fine, rough in zip(network.units, blocks.units, strict=True):
        assert rough.rates == fine.rates[2::3]
    assert coarse(network, 12) == coarse(network, 50) == network


def test_the_memory_rule_gives_way_where_nothing_fits() -> None:
    """Two copies' worth of layers on eight cards: at half the memory there is no room, at all of it there is."""
    made = problem("cloud-8-a40-3090ti-40gbit")
    deep = replace(made, model=made.model.model_copy(update={"num_layers": 150}))
    plan = System().plan(deep)
    plan.check(deep.cluster, deep.model)
    none = replace(made, model=made.model.model_copy(update={"name": "deeper", "num_layers": 400}))
    with pytest.raises(ValueError, match=r"helix: no chain of units of cloud-8-a40-3090ti-40gbit holds deeper"):
        System().plan(none)
