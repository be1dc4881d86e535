"""Attention of one new token a sequence over its paged keys and values, compiled: every cached value is read once, in place.

Blocks lie scattered in memory, where a CPU's own prefetching stops at the end of each. So while one block is computed with, the
next one is asked for.

What torch offers on a CPU needs keys and values gathered into one padded tensor first, which reads and writes them once more;
``attention.gathered`` does that, and is the twin that tests hold this against.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from thunderserve.serving.compile import loose

Array = NDArray[Any]

LOG2E = 1.4426950408889634
FOUR = 4
"""Tokens that are taken together."""
LINE = 64
"""Bytes of a cache line."""


def widened(bits: Any) -> Any:
    """A cached value as float32: float32 as it is, bfloat16 from its bits (numpy has no type for it)."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32) if bits.dtype == np.uint16 else bits


@numba.extending.overload(widened, inline="always")
def _widened(bits):  # type: ignore[no-untyped-def]  # numba compares the signature with that of the lambdas
    if bits == numba.types.uint16:
        return lambda bits: np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)
    return lambda bits: bits


@numba.extending.intrinsic
def _ask_for(_typing: Any, address: Any) -> Any:  # noqa: ARG001  # numba calls it by type, compiled code by value
    """Have the cache line at an address read, to be kept in the second level of cache; nothing waits for it."""

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], shape)
        to_read, locality, data = number(0), number(2), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), to_read, locality, data])
        return context.get_dummy_value()

    return numba.types.void(numba.types.intp), code


@loose
def _ask_for_part(start: int, size: int, part: int, parts: int) -> None:
    """Ask for one of ``parts`` parts of the ``size`` bytes from ``start``."""
    lines = (size + LINE - 1) // LINE
    for line in range(lines * part // parts, lines * (part + 1) // parts):
        _ask_for(start + LINE * line)  # type: ignore[call-arg]  # numba fills in the first


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
        wide: (at least heads, at least the longest length) float32, scratch.
        out: (sequences, heads, dim) float32.
    """
    for sequence in range(len(q)):
        stop = lengths[sequence]
        start = max(0, stop - window) if window > 0 else 0
        _scores(q[sequence], keys, tables[sequence], start, stop, scale, wide)
        for head in range(q.shape[1]):
            _normalise(wide[head], stop - start)
        _mix(values, tables[sequence], start, stop, wide, out[sequence])


@loose
def _scores(q: Array, keys: Array, table: Array, start: int, stop: int, scale: float, wide: Array) -> None:
    """``wide[head, token - start]``: the scaled scores, in base 2.

    Memory is read in the order in which it lies, all heads of a token together, and four tokens share each load of a query.
    """
    size, kv_heads, dim = keys.shape[1], keys.shape[2], keys.shape[3]
    group = len(q) // kv_heads
    factor = np.float32(scale * LOG2E)
    token = start
    while token < stop:
        block, place = keys[table[token // size]], token % size
        end, column = min(size, place + stop - token), token - start
        token += end - place
        following = keys.ctypes.data + keys.strides[0] * table[min(token, stop - 1) // size]
        while place + FOUR <= end:
            _ask_for_part(following, keys.strides[0], place // FOUR, size // FOUR)
            for kv_head in range(kv_heads):
                k0, k1 = block[place, kv_head], block[place + 1, kv_head]
                k2, k3 = block[place + 2, kv_head], block[place + 3, kv_head]
                for head in range(kv_head * group, (kv_head + 1) * group):
                    query, row = q[head], wide[head]
                    s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                    for i in range(dim):
                        s0 += query[i] * widened(k0[i])
                        s1 += query[i] * widened(k1[i])
                        s2 += query[i] * widened(k2[i])
                        s3 += query[i] * widened(k3[i])
                    row[column], row[column + 1] = s0 * factor, s1 * factor
                    row[column + 2], row[column + 3] = s2 * factor, s3 * factor
            place, column = place + FOUR, column + FOUR
        while place < end:
            for kv_head in range(kv_heads):
                key = block[place, kv_head]
                for head in range(kv_head * group, (kv_head + 1) * group):
                    query, total = q[head], np.float32(0)
                    for i in range(dim):
                        total += query[i] * widened(key[i])
                    wide[head, column] = total * factor
            place, column = place + 1, column + 1


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
def _mix(values: Array, table: Array, start: int, stop: int, wide: Array, out: Array) -> None:
    """``out[head]``: the weighted sums of values, read as ``_scores`` reads keys."""
    size, kv_heads, dim = values.shape[1], values.shape[2], values.shape[3]
    group = len(out) // kv_heads
    out[:] = 0
    token = start
    while token < stop:
        block, place = values[table[token // size]], token % size
        end, column = min(size, place + stop - token), token - start
        token += end - place
        following = values.ctypes.data + values.strides[0] * table[min(token, stop - 1) // size]
        while place + FOUR <= end:
            _ask_for_part(following, values.strides[0], place // FOUR, size // FOUR)
            for kv_head in range(kv_heads):
                v0, v1 = block[place, kv_head], block[place + 1, kv_head]
                v2, v3 = block[place + 2, kv_head], block[place + 3, kv_head]
                for head in range(kv_head * group, (kv_head + 1) * group):
                    row, mixed = wide[head], out[head]
                    w0, w1, w2, w3 = row[column], row[column + 1], row[column + 2], row[column + 3]
                    for i in range(dim):
                        mixed[i] += (
                            w0 * widened(v0[i]) + w1 * widened(v1[i]) + w2 * widened(v2[i]) + w3 * widened(v3[i])
                        )
            place, column = place + FOUR, column + FOUR
        while place < end:
            for kv_head in range(kv_heads):
                value = block[place, kv_head]
                for head in range(kv_head * group, (kv_head + 1) * group):
                    weight, mixed = wide[head, column], out[head]
                    for i in range(dim):
                        mixed[i] += weight * widened(value[i])
            place, column = place + 1, column + 1
