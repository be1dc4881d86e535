from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.engine.replica.paged_kernel import _exp2, attend


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 8, 48, 64]), st.sampled_from([0, 1, 5, 40]),
    st.booleans(), st.sampled_from([1, 2, 4, 16]), st.integers(0, 1000),
)  # fmt: skip
def test_it_is_softmax_attention(
    sequences: int, kv_heads: int, group: int, dim: int, window: int, brain: bool, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 50, sequences)
    most = -(-50 // size)
    tables = rng.permutation(sequences * most).reshape(sequences, most).astype(np.int32)
    keys, values = rng.standard_normal((2, sequences * most, size, kv_heads, dim)).astype(np.float32)
    keys *= 3
    if brain:
        cached = [(x.view(np.uint32) >> np.uint32(16)).astype(np.uint16) for x in (keys, values)]
        keys, values = ((x.astype(np.uint32) << np.uint32(16)).view(np.float32) for x in cached)
    else:
        cached = [keys, values]
    q = rng.standard_normal((sequences, kv_heads * group, dim)).astype(np.float32)
    out = np.empty_like(q)
    attend(q, *cached, tables, lengths, dim**-0.5, window, np.empty((kv_heads * group, 64), np.float32), out)
    for i, length in enumerate(lengths):
        first = max(0, length - window) if window else 0
        k, v = (
            x[tables[i]].reshape(-1, kv_heads, dim)[first:length].repeat(group, 1).astype(float) for x in (keys, values)
        )
        scores = np.einsum("hd,thd->ht", q[i], k) * dim**-0.5
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        np.testing.assert_allclose(out[i], np.einsum("ht,thd->hd", weights, v), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("x", [0.0, -0.25, -0.5, -1.0, -3.7, -20.3, -125.9])
def test_powers_of_two_are_right_to_single_precision(x: float) -> None:
    assert float(_exp2(np.float32(x))) == pytest.approx(2.0 ** float(np.float32(x)), rel=3e-7)
