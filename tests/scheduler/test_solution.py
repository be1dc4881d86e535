"""Canonical forms, moves and starts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.scheduler.inventory import Inventory, take_stock
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import ALL, SPLIT, cut, moves_for, sampler
from thunderserve.scheduler.search import start
from thunderserve.scheduler.solution import Solution, canonical, serves, solution_of, together, without
from thunderserve.scheduler.start import clustered
from thunderserve.spec.generate import random_cluster
from thunderserve.spec.plan import Phase

SHAPES = [take_stock(random_cluster(devices, seed)) for devices, seed in ((6, 1), (13, 2), (24, 3))]


def counts(solution: Solution) -> Counter[int]:
    total: Counter[int] = Counter()
    for group in solution:
        total.update(dict(group.cards))
    return total


def random_solution(inventory: Inventory, rng: np.random.Generator) -> Solution:
    labels = rng.integers(0, 5, len(inventory.cluster.devices))
    phases = [SPLIT[int(one)] for one in rng.integers(0, 2, 5)]
    groups = [(phases[label], np.flatnonzero(labels == label).tolist()) for label in range(5)]
    return solution_of(inventory, [(phase, cards) for phase, cards in groups if cards])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES))
def test_relabelling_equal_cards_changes_nothing(seed: int, inventory: Inventory) -> None:
    rng = np.random.default_rng(seed)
    count = len(inventory.cluster.devices)
    labels, phases = rng.integers(0, 4, count), [Phase.PREFILL, Phase.DECODE, Phase.DECODE, Phase.BOTH]
    swap = np.arange(count)
    for kind in inventory.kinds:
        cards = np.array(kind.devices)
        swap[cards] = rng.permutation(cards)

    def solution(by_card: np.ndarray, order: list[int]) -> Solution:
        return solution_of(
            inventory, [(phases[g], np.flatnonzero(by_card == g)) for g in order if (by_card == g).any()]
        )

    relabelled = np.empty_like(labels)
    relabelled[swap] = labels
    one, other = solution(labels, [0, 1, 2, 3]), solution(relabelled, [3, 1, 0, 2])
    assert one == other
    assert hash(one) == hash(other)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.sampled_from([SPLIT, ALL]))
def test_moves_keep_every_card_and_the_form(seed: int, inventory: Inventory, phases: tuple[Phase, ...]) -> None:
    rng = np.random.default_rng(seed)
    solution = random_solution(inventory, rng)
    truth = Counter(dict(enumerate(inventory.counts)))
    for name, move in moves_for(phases).items():
        for _ in range(5):
            moved = move(solution, rng)
            if moved is not None:
                assert counts(moved) == truth, name
                assert moved == canonical(moved), name
                assert all(group.cards and group.phase in ALL for group in moved), name


@given(st.integers(0, 10**6), st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda one: sum(one) > 1))
def test_a_cut_is_a_proper_part(seed: int, sizes: list[int]) -> None:
    cards = tuple(enumerate(sizes))
    part = cut(cards, np.random.default_rng(seed))
    rest = without(cards, part)
    assert part
    assert rest
    assert together(part, rest) == cards


def test_taking_more_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be taken"):
        without(((0, 1),), ((0, 2),))


def test_neighbours_are_new_feasible_and_serve(cloud_lower: Lower) -> None:
    rng = np.random.default_rng(0)
    first = start(cloud_lower, SPLIT, "cluster", rng)
    found = sampler(list(moves_for(SPLIT).values()), cloud_lower.feasible)(first, 40, rng)
    assert len(found) == len(set(found)) > 20
    assert first not in found
    for one in found:
        assert serves(one)
        assert all(cloud_lower.estimator.deduce(group) is not None for group in one)


def test_the_start_clusters_what_is_well_connected(cloud_lower: Lower) -> None:
    groups = clustered(cloud_lower.inventory, cloud_lower.capable, tuple(enumerate(cloud_lower.inventory.counts)))
    kinds = cloud_lower.inventory.kinds
    assert sum((Counter(dict(group)) for group in groups), Counter()) == Counter(
        dict(enumerate(cloud_lower.inventory.counts))
    )
    # Every node of cloud-32 holds LLaMA-30B by itself: no group crosses the network, and none is larger than it must be.
    assert all(len({kinds[kind].node for kind, _ in group}) == 1 for group in groups)
    assert sorted(sum(count for _, count in group) for group in groups) == [2] * 8 + [4] * 4


def test_a_random_start_serves_and_is_seeded(cloud_lower: Lower) -> None:
    first = start(cloud_lower, SPLIT, "random", np.random.default_rng(3))
    assert first == start(cloud_lower, SPLIT, "random", np.random.default_rng(3))
    assert first != start(cloud_lower, SPLIT, "random", np.random.default_rng(4))
    assert serves(first)
    assert counts(first) == Counter(dict(enumerate(cloud_lower.inventory.counts)))
