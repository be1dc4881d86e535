"""The order of stages against every permutation."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.scheduler.route import best_order


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any))
def test_no_permutation_is_shorter(seed: int, counts: list[int]) -> None:
    while sum(counts) > 7:
        counts = [max(count - 1, 0) for count in counts]
    rng = np.random.default_rng(seed)
    hops = rng.uniform(0.1, 5, (len(counts), len(counts)))  # asymmetric, as rented links are
    order, cost = best_order(np.array(counts), hops)
    everything = [kind for kind, count in enumerate(counts) for _ in range(count)]
    shortest = min(sum(hops[a, b] for a, b in pairwise(path)) for path in set(permutations(everything)))
    assert cost == pytest.approx(shortest)
    assert sorted(order) == everything
    assert sum(hops[a, b] for a, b in pairwise(order)) == pytest.approx(cost)


def test_goes_through_the_hub() -> None:
    # 0 and 2 are far apart and both near 1, whose two stages must be passed as well
    hops = np.ones((3, 3))
    hops[0, 2] = hops[2, 0] = 100.0
    order, cost = best_order(np.array([1, 2, 1]), hops)
    assert cost == 3.0
    assert not {(0, 2), (2, 0)} & set(pairwise(order.tolist()))
