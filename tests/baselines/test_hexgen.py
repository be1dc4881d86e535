"""HexGen: its dynamic programming against brute force, its genetic algorithm's moves, and the plans it makes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from baselines.hexgen import Search, System, message_seconds
from baselines.shared.kmeans import kmeans
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.partitions import canonical, dealt, merged, split, swapped
from baselines.shared.pipelines import Site, balance, best_order, busy_s, find, replica_of, sites
from baselines.shared.rating import Rater
from baselines.shared.stages import StageBook, ends_of, latency_s, prefill_rate_per_s
from thunderserve.cost.evaluate import decode_s, prefill_s, step_latency_s
from thunderserve.cost.memory import kv_blocks
from thunderserve.spec.plan import Batching, Flow, Phase, Plan

CHUNKED = Batching(policy="chunked")
MIXED = "cloud-8-a40-3090ti-40gbit"
SMALL = System(population=4, offspring=4, generations=3, requests=200)


def book_of(cluster: str = MIXED, model: str = "llama-30b") -> StageBook:
    made = problem(cluster, model)
    return StageBook(made.cluster, made.model, Remembered(made.costs), typical(made), CHUNKED)


def all_orders(sizes: tuple[int, ...], tp_degrees: tuple[int, ...], stages: int) -> list[list[tuple[int, ...]]]:
    """Every series of stages that uses up all cards of all sites, by trying all."""
    first = np.cumsum([0, *sizes])
    found = []
    for series in product(product(range(len(sizes)), tp_degrees), repeat=stages):
        used = [0] * len(sizes)
        order = []
        for site, tp in series:
            order.append(tuple(range(first[site] + used[site], first[site] + used[site] + tp)))
            used[site] += tp
        if used == list(sizes):
            found.append(order)
    return found


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
    stages=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    objective=st.sampled_from(["latency", "throughput"]),
)
def test_the_dynamic_programming_finds_what_brute_force_finds(sizes, stages, seed, objective) -> None:
    rng = np.random.default_rng(seed)
    cards = sum(sizes)
    stage_cost = rng.uniform(1, 10, (cards, 3, stages))
    hop_cost = rng.uniform(0, 5, (cards, cards))

    def stage_s(devices, index):
        return stage_cost[devices[0], len(devices) - 1, index]

    def hop_s(sender, receiver):
        return hop_cost[sender[-1], receiver[0]]

    def value(order):
        hops = [0.0, *[hop_s(a, b) for a, b in pairwise(order)]]
        each = [stage_s(devices, i) + hop for i, (devices, hop) in enumerate(zip(order, hops, strict=True))]
        return max(each) if objective == "throughput" else sum(each)

    first = np.cumsum([0, *sizes])
    groups = tuple(Site(str(i), "gpu", tuple(range(first[i], first[i + 1]))) for i in range(len(sizes)))
    orders = all_orders(sizes, (1, 2), stages)
    found = best_order(groups, (1, 2), stages, stage_s, hop_s, objective)
    if not orders:
        assert found is None
        return
    assert found is not None
    cost, path = found
    assert cost == pytest.approx(min(map(value, orders)), rel=1e-12)
    assert value(list(path)) == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("objective", ["latency", "throughput"])
@pytest.mark.parametrize("stages", [((0, 1), (2, 3), (4, 5)), ((0, 1, 2, 3), (4, 5, 6, 7)), ((4, 5, 6, 7), (0,))])
def test_layers_are_balanced_as_well_as_any_split_could(stages, objective) -> None:
    book = book_of()
    layout = balance(book, stages, objective)
    assert layout is not None
    ends = ends_of(len(stages))

    def slowest(layers):
        each = zip(stages, layers, ends, strict=True)
        return max(busy_s(book, cards, n, objective, last=end.last) for cards, n, end in each)

    caps = [book.max_layers(cards, end, book.load.longest) for cards, end in zip(stages, ends, strict=True)]
    splits = product(*(range(1, cap + 1) for cap in caps[:-1]))
    whole = book.model.num_layers
    rests = [(*some, whole - sum(some)) for some in splits if 1 <= whole - sum(some) <= caps[-1]]
    assert slowest([n for _, n in layout]) == pytest.approx(min(map(slowest, rests)), rel=1e-12)


def test_a_layout_is_priced_as_its_own_step_table_says() -> None:
    """Lines in layers, from probes of one and two layers, against the table of the whole mixed pipeline."""
    book = book_of()
    layout = (((0, 1), 33), ((4, 5, 6, 7), 27))
    replica = replica_of(layout, Phase.BOTH, CHUNKED)
    bounds = {"max_tokens": 2048, "max_sequences": 256, "max_context": book.load.longest}
    table = book.costs.step_table(book.model, replica, book.cluster, **bounds)
    prompt = np.array([round(book.load.prompt_tokens)])
    busy = prefill_s(table, prompt)
    step = decode_s(table, 1, np.array([book.load.context]))
    whole = step_latency_s(table, busy, prompt)[0]
    whole += book.load.decode_steps * step_latency_s(table, step, np.ones(1))[0]
    assert latency_s(book, layout) == pytest.approx(whole, rel=5e-3)
    assert prefill_rate_per_s(book, layout) == pytest.approx(1 / busy.max(), rel=5e-3)


@pytest.mark.parametrize("place", [0, 1])
def test_the_most_layers_of_a_stage_are_those_the_memory_rules_allow(place) -> None:
    """One layer more on the stage leaves too little KV for the longest request; the other stage has room."""
    book = book_of()
    cards = ((4, 5), (0, 1, 2, 3)) if place == 0 else ((0, 1, 2, 3), (4, 5))
    most = book.max_layers((4, 5), ends_of(2)[place], book.load.longest)

    def tokens(layers):
        split = (layers, 60 - layers) if place == 0 else (60 - layers, layers)
        replica = replica_of(tuple(zip(cards, split, strict=True)), Phase.BOTH, CHUNKED)
        return kv_blocks(book.model, replica, book.cluster) * CHUNKED.block_tokens

    assert tokens(most) + CHUNKED.block_tokens > book.load.longest > tokens(most + 1)


def test_a_group_that_is_too_small_has_no_layout() -> None:
    assert find(book_of(), (4, 5), "latency") is None


def test_sites_keep_bridged_pairs_together() -> None:
    cluster = problem("cloud-32").cluster
    pairs = {frozenset((bridge.first, bridge.second)) for bridge in cluster.bridges}
    site = next(one for one in sites(cluster, (16, 18, 19, 21, 22, 23)) if one.gpu == "A40")
    assert {frozenset(site.devices[:2]), frozenset(site.devices[2:4])} <= pairs
    assert set(site.devices) == {16, 18, 19, 21, 22, 23}


def test_kmeans_finds_clusters_that_are_far_apart() -> None:
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(centre, 0.1, (9, 2)) for centre in ((0, 0), (10, 0), (0, 10))])
    labels = kmeans(points, 3, np.random.default_rng(5))
    assert [len(set(labels[i : i + 9])) for i in (0, 9, 18)] == [1, 1, 1]
    assert len(set(labels)) == 3
    with pytest.raises(ValueError, match="cannot make 28 clusters of 27 points"):
        kmeans(points, 28, rng)


def test_the_nearest_cards_of_the_communication_matrix_stand_on_one_node() -> None:
    cluster = problem("cloud-32").cluster
    seconds = message_seconds(cluster)
    nodes = np.array([device.node for device in cluster.devices])
    same = nodes[:, None] == nodes[None, :]
    assert (seconds == seconds.T).all()
    assert seconds[same].max() < seconds[~same].min()


genes = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=5).map(canonical).filter(bool)


@settings(max_examples=150, deadline=None)
@given(genes=genes, seed=st.integers(0, 2**31), move=st.sampled_from([merged, split, swapped]))
def test_mutations_move_cards_and_lose_none(genes, seed, move) -> None:
    child = move(genes, np.random.default_rng(seed))
    assert [sum(column) for column in zip(*child, strict=True)] == [sum(column) for column in zip(*genes, strict=True)]
    assert all(min(group) >= 0 and any(group) for group in child)
    assert child == canonical(list(child))
    assert move is not merged or len(genes) == 1 or len(child) == len(genes) - 1


def test_every_card_is_dealt_once() -> None:
    places = sites(problem("cloud-32").cluster)
    sizes = tuple(len(site.devices) for site in places)
    half = tuple(size // 2 for size in sizes)
    one = tuple(1 if i == 4 else 0 for i in range(len(sizes)))
    groups = dealt(places, (tuple(a - b - c for a, b, c in zip(sizes, half, one, strict=True)), half, one))
    assert sorted(card for group in groups for card in group) == list(range(32))


def test_offspring_without_room_for_the_model_are_never_born() -> None:
    search = Search(SMALL, problem())
    everything = (tuple(len(site.devices) for site in search.pipelines.sites),)
    child = everything
    for _ in range(60):
        child = search.mutated(child)
        assert all(search.holds(group) for group in child)
    assert search.rater.evaluations == 0


@pytest.mark.parametrize("cluster", [MIXED, "cloud-32"])
def test_its_plans_can_run_and_repeat(cluster) -> None:
    made = problem(cluster)
    plan = SMALL.plan(made)
    assert plan == SMALL.plan(made)
    plan.check(made.cluster, made.model)
    assert {replica.phase for replica in plan.replicas} == {Phase.BOTH}
    assert sorted(card for replica in plan.replicas for card in replica.devices) == list(
        range(len(made.cluster.devices))
    )
    assert Rater(made, 200).rate(plan).attainment > 0


def test_equal_cards_make_equal_replicas() -> None:
    plan = System(requests=300).plan(problem("inhouse-8xa100", rate_per_s=8.0))
    assert len({(replica.describe(), tuple(s.num_layers for s in replica.stages)) for replica in plan.replicas}) == 1


def test_it_beats_blind_uniform_parallelism_on_mixed_cards() -> None:
    """The best TP x PP that cuts the cards in order, whatever their type: what a planner for equal cards would do."""
    made = problem("cloud-20-four-types", rate_per_s=8.0)
    rater = Rater(made, 600)
    blind = [plan for tp in (1, 2, 4) for pp in (1, 2, 4) if (plan := blind_plan(made, tp, pp)) is not None]
    assert blind
    best = max(rater.rate(plan).attainment for plan in blind)
    assert rater.rate(System(requests=600).plan(made)).attainment > best + 0.05


def blind_plan(made, tp: int, pp: int) -> Plan | None:
    """TP and PP the same everywhere, layers even; None where a replica does not fit."""
    size = tp * pp
    count = len(made.cluster.devices) // size
    layers = [made.model.num_layers // pp] * pp
    replicas = []
    for start in range(0, count * size, size):
        groups = [tuple(range(start + i * tp, start + i * tp + tp)) for i in range(pp)]
        replica = replica_of(tuple(zip(groups, layers, strict=True)), Phase.BOTH, CHUNKED)
        if kv_blocks(made.model, replica, made.cluster) * 16 < 2000:
            continue
        replicas.append(replica)
    if not replicas:
        return None
    flows = tuple(Flow(prefill=i, decode=i, share=1 / len(replicas)) for i in range(len(replicas)))
    return Plan(system="blind", replicas=tuple(replicas), flows=flows, router="join_shortest_queue")


def test_a_model_that_does_not_fit_is_refused_in_words() -> None:
    made = problem(MIXED)
    deep = replace(made, model=made.model.model_copy(update={"name": "deep", "num_layers": 400}))
    with pytest.raises(ValueError, match=rf"hexgen: no group of the cards of {MIXED} holds deep"):
        SMALL.plan(deep)
