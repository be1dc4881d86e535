from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.serving.blocks import blocks_for, growth, growth_horizon, next_growth, residue_place
from thunderserve.serving.pool import Limits, Pool, empty_pool, new_requests


def lane_with(block: int, contexts: list[int], step: int) -> Pool:
    """A lane at ``step`` whose sequences have ``contexts`` tokens in cache."""
    pool = empty_pool([Limits(False, 1, block, 1000, 0, 64, 64)], new_requests(0))
    pool.lanes["step"] = step
    pool.lanes["decoding"] = len(contexts)
    for context in contexts:
        pool.ints[residue_place(pool.replicas[0], pool.lanes[0], context)] += 1
    return pool


def brute(block: int, contexts: list[int], steps: int) -> int:
    return sum(-(-(context + steps) // block) - -(-context // block) for context in contexts)


CASES = st.tuples(st.integers(1, 17), st.lists(st.integers(1, 100), min_size=1, max_size=12), st.integers(0, 50))


@settings(max_examples=300, deadline=None)
@given(CASES, st.integers(0, 40), st.integers(0, 80))
def test_growth_counts_the_blocks_that_sequences_cross(case, first: int, steps: int) -> None:
    pool = lane_with(*case)
    replica, lane = pool.replicas[0], pool.lanes[0]
    assert growth(pool, replica, lane, first, steps) == brute(*case[:2], first + steps) - brute(*case[:2], first)
    assert next_growth(pool, replica, lane) == brute(*case[:2], 1)


@settings(max_examples=300, deadline=None)
@given(CASES, st.integers(0, 60), st.integers(1, 80))
def test_the_horizon_is_the_last_step_that_the_free_blocks_allow(case, free: int, limit: int) -> None:
    pool = lane_with(*case)
    found = growth_horizon(pool, pool.replicas[0], pool.lanes[0], free, limit)
    assert found == max(steps for steps in range(limit + 1) if brute(*case[:2], steps) <= free)


def test_a_started_block_is_held_whole() -> None:
    assert [blocks_for(tokens, 16) for tokens in (0, 1, 16, 17)] == [0, 1, 1, 2]
    assert np.iinfo(np.int64).max > blocks_for(1 << 40, 16)
