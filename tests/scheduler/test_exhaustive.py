"""The search against every solution of small clusters, and both against the bound."""

from collections.abc import Callable

import numpy as np
import pytest

from thunderserve.policy import Problem
from thunderserve.scheduler.bound import upper_bound
from thunderserve.scheduler.exhaustive import best_of_all, partitions, solutions
from thunderserve.scheduler.lower import lower_level
from thunderserve.scheduler.moves import SPLIT
from thunderserve.scheduler.search import Settings, climb, start
from thunderserve.scheduler.stops import after_steps, any_of, without_gain
from thunderserve.spec.kv import INT4


@pytest.mark.parametrize(
    ("cards", "count"),
    [
        (((0, 5),), 7),  # integer partitions of 5
        (((0, 1), (1, 1), (2, 1), (3, 1)), 15),  # Bell number of 4
        (((0, 2), (1, 2)), 9),  # multiset partitions of {a, a, b, b}
    ],
)
def test_partitions_are_all_there_once(cards: tuple[tuple[int, int], ...], count: int) -> None:
    found = list(partitions(cards))
    assert len(found) == len(set(found)) == count


def test_solutions_of_two_equal_cards() -> None:
    assert len(list(solutions(((0, 2),), SPLIT))) == 1  # one prefills, one decodes; a single group cannot do both


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("devices", [3, 4, 5, 6])
def test_search_finds_the_optimum(tiny: Callable[[int, int], Problem], devices: int, seed: int) -> None:
    lower = lower_level(tiny(devices, seed), (INT4,), requests=200)
    try:
        _, truth, _ = best_of_all(lower, SPLIT)
    except ValueError:
        pytest.skip("this cluster does not hold the model twice")
    settings = Settings(SPLIT, any_of(after_steps(80), without_gain(30)), seed=(seed,))
    outcome = climb(lower, settings, start(lower, SPLIT, "cluster", np.random.default_rng(seed)))
    assert outcome.score <= truth
    assert outcome.score.attainment >= truth.attainment - 0.02
    bound = upper_bound(lower)
    assert truth.capacity_per_s <= bound.capacity_per_s
    pooled = upper_bound(lower, most_kinds=0)
    assert pooled.capacity_per_s >= bound.capacity_per_s * (1 - 1e-6)  # the solver's tolerance
    assert pooled.attainment >= bound.attainment - 1e-6
