"""HexGen-2: its partitions, its maximum flow against a linear program, its refinement, and the plans it makes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem
from scipy.optimize import linprog

from baselines.hexgen2 import Search, System, bandwidths, between
from baselines.shared.cuts import cut_weight, kernighan_lin, large_cut, spectral
from baselines.shared.flows import UNITS, max_flow
from baselines.shared.rating import Rater
from thunderserve.cost.network import kv_transfer
from thunderserve.spec.kv import RAW
from thunderserve.spec.plan import Phase


def flow_by_linear_program(prefill, decode, links) -> float:
    """The same maximum flow, its capacities rounded alike."""
    edges = sorted(links)
    rows = [[float(edge[0] == i) for edge in edges] for i in range(len(prefill))]
    rows += [[float(edge[1] == j) for edge in edges] for j in range(len(decode))]
    limits = [int(value * UNITS) / UNITS for value in [*prefill, *decode]]
    bounds = [(0, int(links[edge] * UNITS) / UNITS) for edge in edges]
    return -linprog([-1.0] * len(edges), A_ub=rows, b_ub=limits, bounds=bounds).fun


capacities = st.lists(st.floats(0, 20), min_size=1, max_size=5)


@settings(max_examples=80, deadline=None)
@given(prefill=capacities, decode=capacities, seed=st.integers(0, 2**31))
def test_the_flow_is_as_large_as_the_linear_program_says(prefill, decode, seed) -> None:
    rng = np.random.default_rng(seed)
    pairs = list(product(range(len(prefill)), range(len(decode))))
    links = {pair: float(rng.uniform(0, 8)) for pair in pairs if rng.random() < 0.8}
    flow = max_flow(prefill, decode, links, "test") if links else None
    if flow is None:
        return
    assert flow.value == pytest.approx(flow_by_linear_program(prefill, decode, links), abs=1e-6)
    assert sum(flow.edges.values()) == pytest.approx(flow.value, abs=1e-9)
    for i, limit in enumerate(prefill):
        assert sum(amount for edge, amount in flow.edges.items() if edge[0] == i) <= limit + 1e-9
    for j, limit in enumerate(decode):
        assert sum(amount for edge, amount in flow.edges.items() if edge[1] == j) <= limit + 1e-9
    assert all(amount <= links[edge] + 1e-9 for edge, amount in flow.edges.items())


def random_weights(count: int, seed: int):
    weights = np.triu(np.random.default_rng(seed).uniform(0, 1, (count, count)), 1)
    return weights + weights.T


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 9), parts=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_refinement_never_makes_the_cut_heavier_and_keeps_sizes(count, parts, seed) -> None:
    weights = random_weights(count, seed)
    labels = np.random.default_rng(seed).integers(0, parts, count)
    allowed = (
        np.random.default_rng(seed + 1).uniform(size=count).argsort()[: count // 2]
    )  # these must stay where they are
    refined = kernighan_lin(weights, labels, lambda new: bool((new[allowed] == labels[allowed]).all()))
    assert cut_weight(weights, refined) <= cut_weight(weights, labels) + 1e-12
    assert (np.bincount(refined, minlength=parts) == np.bincount(labels, minlength=parts)).all()
    assert (refined[allowed] == labels[allowed]).all()


def test_a_pass_goes_through_a_loss_to_a_better_cut() -> None:
    """Two cliques of four, two nodes of each on the wrong side: no single swap is enough, two are."""
    weights = np.kron(np.eye(2), np.ones((4, 4))) * (1 - np.eye(8))
    refined = kernighan_lin(weights, np.array([0, 0, 1, 1, 0, 0, 1, 1]), lambda _: True)
    assert cut_weight(weights, refined) == 0


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_the_spectral_partition_finds_cliques_whatever_their_order(parts) -> None:
    rng = np.random.default_rng(parts)
    truth = rng.permutation(np.repeat(np.arange(parts), 4))
    weights = np.where(truth[:, None] == truth[None, :], 10.0, 0.1) * (1 - np.eye(len(truth)))
    labels = spectral(weights, np.ones(len(truth)), parts)
    assert cut_weight(weights, labels) == pytest.approx(cut_weight(weights, truth))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 12), seed=st.integers(0, 2**31), data=st.data())
def test_spectral_parts_are_all_there_and_nearly_equal(count, seed, data) -> None:
    parts = data.draw(st.integers(1, count))
    labels = spectral(random_weights(count, seed), np.ones(count), parts)
    assert set(labels) == set(range(parts))
    assert np.bincount(labels).max() <= 2 * -(-count // parts)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 8), seed=st.integers(0, 2**31))
def test_the_large_cut_is_nearly_the_largest_balanced_one(count, seed) -> None:
    weights = random_weights(count, seed)
    halves = [np.array(way) for way in product((0, 1), repeat=count) if sum(way) == count // 2]
    best = max(cut_weight(weights, way) for way in halves)
    labels = large_cut(weights)
    assert sorted(np.bincount(labels, minlength=2)) == sorted((count // 2, count - count // 2))
    assert best * 0.85 <= cut_weight(weights, labels) <= best + 1e-9


def test_bandwidth_between_groups_is_that_of_their_cards() -> None:
    made = problem("cloud-8-a40-3090ti-40gbit")
    rates = bandwidths(made)
    mean = between(rates, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert mean[0, 1] == pytest.approx(made.cluster.link(0, 4).bytes_per_s)
    assert rates[0, 1] > rates[0, 4]


@pytest.mark.parametrize("cluster", ["cloud-32", "cloud-20-four-types", "inhouse-8xa100"])
def test_refinement_only_raises_the_flow(cluster) -> None:
    search = Search(System(), problem(cluster))
    best = search.run()
    assert best.flow.value >= search.started > 0
    phases = [key[0] for key in best.layouts]
    assert {"prefill", "decode"} == set(phases)
    # No neighbour that the search knows of is better: it stopped where it says it stops.
    assert search.better(best, search.sides(best)) is None
    assert search.better(best, search.trades(best)) is None


def test_refinement_is_worth_it_on_mixed_cards() -> None:
    search = Search(System(), problem("cloud-32"))
    assert search.run().flow.value > 1.05 * search.started


@pytest.mark.parametrize("cluster", ["cloud-32", "cloud-8-a40-3090ti-40gbit", "homogeneous-8xl40s"])
def test_its_plans_can_run_and_repeat(cluster) -> None:
    made = problem(cluster)
    plan = System().plan(made)
    assert plan == System().plan(made)
    plan.check(made.cluster, made.model)
    assert {replica.phase for replica in plan.replicas} == {Phase.PREFILL, Phase.DECODE}
    assert {flow.codec for flow in plan.flows} == {RAW}
    assert plan.router == "flows"
    carried = {flow.prefill for flow in plan.flows} | {flow.decode for flow in plan.flows}
    assert carried == set(range(len(plan.replicas)))
    assert Rater(made, 200).rate(plan).attainment > 0


def test_no_link_is_promised_more_kv_than_it_carries() -> None:
    made = problem("cloud-8-a40-3090ti-5gbit")
    search = Search(System(), made)
    best = search.run()
    for (i, j), amount in best.flow.edges.items():
        ends = (
            search.replica(best.layouts["prefill", i], Phase.PREFILL),
            search.replica(best.layouts["decode", j], Phase.DECODE),
        )
        wire_s = kv_transfer(made.model, *ends, made.cluster, RAW).wire_s_per_token * search.book.load.prompt_tokens
        assert amount / search.options.window_s * wire_s <= 1 + 1e-6


def test_slow_links_make_it_keep_kv_on_the_node() -> None:
    fast, slow = (System().plan(problem(f"cloud-8-a40-3090ti-{rate}gbit")) for rate in (40, 5))

    def across(plan):
        nodes = [replica.devices[0] // 4 for replica in plan.replicas]
        return sum(flow.share for flow in plan.flows if nodes[flow.prefill] != nodes[flow.decode])

    assert across(slow) < across(fast)


def test_one_copy_of_the_model_is_not_enough() -> None:
    made = problem("cloud-8-a40-3090ti-40gbit")
    deep = replace(made, model=made.model.model_copy(update={"name": "deep", "num_layers": 150}))
    with pytest.raises(ValueError, match=r"hexgen2: cloud-8-a40-3090ti-40gbit does not hold deep twice"):
        System().plan(deep)
