"""Tabu search against every solution of small random clusters; ``harness bench search --truth`` does more of them."""

from __future__ import annotations

from itertools import product

import pytest

from harness.bench._search_truth import Trial, summary, trials
from thunderserve.scheduler.exhaustive import solutions
from thunderserve.scheduler.inventory import take_stock
from thunderserve.scheduler.moves import ALL, SPLIT, Phases
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.solution import serves, solution_of
from thunderserve.spec.generate import random_cluster


@pytest.mark.parametrize("phases", [SPLIT, ALL])
@pytest.mark.parametrize(("devices", "seed"), [(2, 0), (3, 1), (4, 2), (4, 3)])
def test_all_solutions_are_those_of_all_labellings(devices: int, seed: int, phases: Phases) -> None:
    """The slow twin: give each card any label and each label any phase."""
    inventory = take_stock(random_cluster(devices, seed, node_sizes=(1, 2, 4)))
    wanted = set()
    for labels in product(range(devices), repeat=devices):
        used = sorted(set(labels))
        for chosen in product(phases, repeat=len(used)):
            groups = [
                (phase, [card for card, label in enumerate(labels) if label == one])
                for one, phase in zip(used, chosen, strict=True)
            ]
            wanted.add(solution_of(inventory, groups))
    assert set(solutions(tuple(enumerate(inventory.counts)), phases)) == {one for one in wanted if serves(one)}


@pytest.fixture(scope="module")
def done() -> list[Trial]:
    return list(trials(12, (2, 5), 120.0, print))


def test_search_is_optimal_on_small_clusters(done: list[Trial]) -> None:
    assert len(done) == 12
    assert {one.cards for one in done} == {2, 3, 4, 5}
    assert all(one.found <= one.truth for one in done)
    assert sum(one.optimal for one in done) >= 11
    assert max(one.gap for one in done) <= 0.02


def test_the_clusters_are_worth_the_trial(done: list[Trial]) -> None:
    """Neither all trivial to serve nor hopeless, with a choice to make."""
    assert sum(0.05 < one.truth.attainment < 1 for one in done) >= 4
    assert max(one.solutions for one in done) > 100


def test_the_summary_counts() -> None:
    good = Trial("a", 2, 10, Score(0.9, 1, 0), Score(0.9, 2, 0), 1.0, 0.1, 1.0)
    poor = Trial("b", 3, 30, Score(0.45, 1, 0), Score(0.5, 1, 0), 1.0, 0.1, 1.0)
    assert (good.gap, good.optimal) == (0.0, True)
    assert (poor.gap, poor.optimal) == (pytest.approx(0.1), False)
    text = summary([good, poor])
    assert "50.0%" in text
    assert "10.00%" in text
    assert "missed: b: 0.4500 of 0.5000" in text
    assert "break ties: 0 of 2" in text
