"""Attention of one new token a sequence over its paged keys and values, compiled: every cached value is read once, in place.

What torch offers on a CPU needs keys and values gathered into one padded tensor first, which reads and writes them once more;
``attention.gathered`` does that, and is the twin that tests hold this against.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from thunderserve.serving.compile import loose

Array = NDArray[Any]

LOG2E = 1.4426950408889634


def widened(bits: Any) -> Any:
    """A cached value as float32: float32 as it is, bfloat16 from its bits (numpy has no type for it)."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32) if bits.dtype == np.uint16 else bits


@numba.extending.overload(widened, inline="always")
def _widened(bits):  # type: ignore[no-untyped-def]  # numba compares the signature with that of the lambdas
    if bits == numba.types.uint16:
        return lambda bits: np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)
    return lambda bits: bits


@loose
def attend(
    q: Array,
    keys: Array,
    values: Array,
    tables: Array,
    lengths: Array,
    scale: float,
    window: int,
    wide: Array,
    out: Array,
) -> None:
    """``out[i] = softmax(scale q[i] K^T) V`` over the ``lengths[i]`` tokens of sequence i, the new one included.

    Args:
        q: (sequences, heads, dim) float32.
        keys, values: (blocks, block tokens, KV heads, dim), float32, or bfloat16 as uint16.
        tables: (sequences, most blocks) block numbers.
        lengths: (sequences,) tokens.
        scale: of the scores.
        window: only the last so many tokens; 0: all.
        wide: (2 + heads // KV heads, at least the longest length or dim) float32, scratch.
        out: (sequences, heads, dim) float32.
    """
    group = q.shape[1] // keys.shape[2]
    for sequence in range(len(q)):
        stop = lengths[sequence]
        start = max(0, stop - window) if window > 0 else 0
        for kv_head in range(keys.shape[2]):
            first = kv_head * group
            _scores(q[sequence], keys, tables[sequence], kv_head, first, group, start, stop, scale, wide)
            for member in range(group):
                _normalise(wide[member], stop - start)
            _mix(values, tables[sequence], kv_head, first, group, start, stop, wide, out[sequence])


@loose
def _scores(
    q: Array,
    keys: Array,
    table: Array,
    kv_head: int,
    first: int,
    group: int,
    start: int,
    stop: int,
    scale: float,
    wide: Array,
) -> None:
    """``wide[member, token - start]``: the scaled scores, in base 2."""
    size, dim = keys.shape[1], keys.shape[3]
    factor = np.float32(scale * LOG2E)
    for token in range(start, stop):
        key = keys[table[token // size], token % size, kv_head]
        for member in range(group):
            query = q[first + member]
            total = np.float32(0)
            for i in range(dim):
                total += query[i] * widened(key[i])
            wide[member, token - start] = total * factor


@loose
def _normalise(scores: Array, count: int) -> None:
    """Base-2 scores to weights that sum to 1, in place."""
    most = scores[0]
    for i in range(count):
        most = max(most, scores[i])
    total = np.float32(0)
    for i in range(count):
        scores[i] = _exp2(scores[i] - most)
    for i in range(count):
        total += scores[i]
    share = np.float32(1) / total
    for i in range(count):
        scores[i] *= share


@loose
def _exp2(x: Any) -> Any:
    """2**x of x <= 0 to 2 units in the last place of float32 (Cephes' polynomial), without a call: loops are vectorised."""
    clipped = max(np.float32(x), np.float32(-126))
    whole = np.floor(clipped + np.float32(0.5))
    part = np.float32(clipped - whole)
    y = np.float32(1.535336188319500e-4)
    y = y * part + np.float32(1.339887440266574e-3)
    y = y * part + np.float32(9.618437357674640e-3)
    y = y * part + np.float32(5.550332471162809e-2)
    y = y * part + np.float32(2.402264791363012e-1)
    y = y * part + np.float32(6.931472028550421e-1)
    y = y * part + np.float32(1)
    scale = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return y * scale


@loose
def _mix(
    values: Array,
    table: Array,
    kv_head: int,
    first: int,
    group: int,
    start: int,
    stop: int,
    wide: Array,
    out: Array,
) -> None:
    """The weighted sums of values."""
    size, dim = values.shape[1], values.shape[3]
    for member in range(group):
        for i in range(dim):
            out[first + member, i] = 0
    for token in range(start, stop):
        value = values[table[token // size], token % size, kv_head]
        for member in range(group):
            weight = wide[member, token - start]
            mixed = out[first + member]
            for i in range(dim):
                mixed[i] += weight * widened(value[i])
