"""Uneven layers against every split."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.scheduler.layers import balance, room_for_layers, tokens_beside


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 14))
def test_no_split_has_a_faster_slowest_stage(seed: int, stages: int, num_layers: int) -> None:
    rng = np.random.default_rng(seed)
    layer_s, fixed_s = rng.uniform(0.1, 2, stages), rng.uniform(0, 3, stages)
    most = rng.integers(0, 10, stages)
    layers = np.zeros(stages, np.int64)
    possible = balance(layer_s, fixed_s, most, num_layers, layers)
    splits = [split for split in product(*(range(1, limit + 1) for limit in most)) if sum(split) == num_layers]
    assert possible == bool(splits)
    if possible:
        assert tuple(layers) in splits
        best = min(max(fixed_s + np.array(split) * layer_s) for split in splits)
        assert max(fixed_s + layers * layer_s) == pytest.approx(best)


def test_room_and_tokens_are_inverse() -> None:
    usable, fixed = np.array([40.0, 22.0]), np.array([1.0, 2.0])
    layer, kv = np.array([1.0, 1.0]), np.array([0.01, 0.02])
    most = np.zeros(2, np.int64)
    room_for_layers(usable, fixed, layer, kv, 50.0, most)
    assert most.tolist() == [26, 10]
    assert tokens_beside(usable, fixed, layer, kv, most) >= 50
    assert tokens_beside(usable, fixed, layer, kv, most + 1) < 50
