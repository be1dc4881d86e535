"""Alpa: its ILP and its DP against brute force, and the plans it makes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from baselines.alpa import Cutter, System, _grouped
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.pipeline_cut import TOLERANCE, Mesh, best_cut, least_sum
from baselines.shared.rating import Rater
from baselines.shared.sharding import MEGATRON, Conversions, Operator, best_sharding, cost, operators, strategies
from baselines.shared.stages import StageBook
from thunderserve.spec.load import load_model
from thunderserve.spec.plan import Batching, Phase

NAMES = ("qkv", "attention", "out", "up", "down")
seconds = st.floats(0, 10)


@settings(max_examples=60, deadline=None)
@given(
    work=st.lists(st.floats(0.01, 10), min_size=5, max_size=5),
    widths=st.lists(st.floats(0.2, 4), min_size=5, max_size=5),
    cards=st.sampled_from([2, 4, 8]),
    conversions=st.builds(Conversions, seconds, seconds, seconds),
)
def test_the_ilp_is_as_cheap_as_the_cheapest_of_all_shardings(work, widths, cards, conversions) -> None:
    layer = [Operator(n, s, n != "attention", w) for n, s, w in zip(NAMES, work, widths, strict=True)]
    every = product(*[[one.name for one in strategies(operator, cards)] for operator in layer])
    best = min(cost(layer, dict(zip(NAMES, picked, strict=True)), cards, conversions) for picked in every)
    choice = best_sharding(layer, cards, conversions)
    assert choice.seconds == pytest.approx(best, rel=1e-6)
    assert cost(layer, choice.strategies, cards, conversions) == choice.seconds


def test_the_price_of_megatron_is_two_all_reduces() -> None:
    layer = operators(load_model("llama-30b"), 8.0, 900.0)
    assert sum(operator.seconds for operator in layer) == pytest.approx(8.0)
    assert cost(layer, MEGATRON, 4, Conversions(0.3, 0.15, 0.15)) == pytest.approx(8.0 / 4 + 2 * 0.3)
    alone = dict.fromkeys(NAMES, "replicate")
    assert cost(layer, alone, 4, Conversions(0.3, 0.15, 0.15)) == pytest.approx(8.0)


def test_cheap_links_shard_and_dear_ones_repeat_the_work() -> None:
    layer = operators(load_model("llama-30b"), 8.0, 900.0)
    cheap = best_sharding(layer, 4, Conversions(0.1, 0.08, 0.08)).strategies
    dear = best_sharding(layer, 4, Conversions(50.0, 25.0, 25.0)).strategies
    assert cheap == MEGATRON
    assert set(dear.values()) == {"replicate"}


def random_meshes(cards: int, layers: int, rng: np.random.Generator) -> list[Mesh]:
    found = []
    for size in (1, 2, 4):
        for start in range(0, cards - size + 1, size):
            most = int(rng.integers(0, layers + 1))
            found.append(Mesh(start, size, tuple(np.cumsum(rng.uniform(0.2, 3, most)) / size**0.7)))
    return found


def all_cuts(layers: int, start: int, cards: int, meshes: list[Mesh]):
    """Every series of stages that uses all cards from ``start`` on and all layers."""
    if start == cards:
        return [[]] if layers == 0 else []
    found = []
    for mesh in meshes:
        if mesh.start == start:
            for held in range(1, min(len(mesh.seconds), layers) + 1):
                found += [[(mesh, held), *rest] for rest in all_cuts(layers - held, start + mesh.cards, cards, meshes)]
    return found


def value_of(stages, in_flight: int) -> float:
    each = [mesh.seconds[held - 1] for mesh, held in stages]
    return sum(each) + (in_flight - 1) * max(each)


@settings(max_examples=80, deadline=None)
@given(cards=st.integers(1, 4), layers=st.integers(1, 6), in_flight=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_the_cut_is_as_good_as_the_best_of_all_cuts(cards, layers, in_flight, seed) -> None:
    meshes = random_meshes(cards, layers, np.random.default_rng(seed))
    every = all_cuts(layers, 0, cards, meshes)
    found = best_cut(layers, cards, meshes, in_flight)
    if not every:
        assert found is None
        return
    best = min(value_of(stages, in_flight) for stages in every)
    assert found is not None
    assert found.value == pytest.approx(value_of(found.stages, in_flight))
    assert best - 1e-9 <= found.value <= best * (1 + TOLERANCE)
    assert sum(held for _, held in found.stages) == layers


@settings(max_examples=60, deadline=None)
@given(cards=st.integers(1, 4), layers=st.integers(1, 6), bound=st.floats(0.5, 6), seed=st.integers(0, 2**31))
def test_the_inner_program_keeps_its_bound_and_finds_the_least_sum(cards, layers, bound, seed) -> None:
    meshes = random_meshes(cards, layers, np.random.default_rng(seed))
    every = [one for one in all_cuts(layers, 0, cards, meshes) if max(m.seconds[n - 1] for m, n in one) <= bound]
    found = least_sum(layers, cards, meshes, bound)
    assert (found is None) == (not every)
    if found is not None:
        assert value_of(found, 1) == pytest.approx(min(value_of(one, 1) for one in every))


def test_groups_use_every_card_that_a_size_leaves() -> None:
    nodes = [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert _grouped(nodes, 4) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert _grouped(nodes, 3) == [(0, 1, 2), (4, 5, 6), (3, 7, 8)]
    assert sorted(card for row in _grouped(nodes, 5) for card in row) == list(range(10))


def test_more_requests_in_flight_even_out_the_stages() -> None:
    """One in flight minimises the sum of times, many the slowest stage."""
    made = problem("homogeneous-8xl40s")
    book = StageBook(made.cluster, made.model, Remembered(made.costs), typical(made), Batching(policy="chunked"))
    slowest, sums = [], []
    for in_flight in (1, 64):
        layout = Cutter(book, 16, in_flight).pipeline(tuple(range(8)))
        assert layout is not None
        last = len(layout) - 1
        each = [book.request_s(cards, n, 16, last=i == last) for i, (cards, n) in enumerate(layout)]
        slowest.append(max(each))
        sums.append(sum(each))
    assert slowest[1] < slowest[0]
    assert sums[0] < sums[1]


@pytest.mark.parametrize("cluster", ["cloud-32", "cloud-8-a40-3090ti-40gbit", "homogeneous-8xl40s"])
def test_its_plans_can_run_and_repeat(cluster) -> None:
    made = problem(cluster)
    system = System(requests=150)
    plan = system.plan(made)
    assert plan == system.plan(made)
    plan.check(made.cluster, made.model)
    assert {replica.phase for replica in plan.replicas} == {Phase.BOTH}
    types = [{made.cluster.devices[device].gpu for device in replica.devices} for replica in plan.replicas]
    assert all(len(kinds) == 1 for kinds in types)
    assert Rater(made, 200).rate(plan).attainment > 0


def test_equal_cards_make_equal_pipelines() -> None:
    plan = System(requests=150).plan(problem("inhouse-8xa100"))
    assert len({(replica.describe(), tuple(s.num_layers for s in replica.stages)) for replica in plan.replicas}) == 1


def test_a_model_that_fits_nowhere_is_refused_in_words() -> None:
    made = problem("cloud-8-a40-3090ti-40gbit")
    deep = replace(made, model=made.model.model_copy(update={"name": "deep", "num_layers": 400}))
    with pytest.raises(ValueError, match=r"alpa: no group of one GPU type of cloud-8-a40-3090ti-40gbit holds deep"):
        System().plan(deep)
