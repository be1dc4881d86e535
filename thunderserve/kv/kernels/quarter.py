"""Compiled loops for float8 e4m3 with one power of two a group, and for moving values as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from thunderserve.kv.kernels.numbers import as_bits, disorder, from_bits, infinity, narrow, order, widen
from thunderserve.kv.kernels.quantise import (
    BAD_PAYLOAD,
    DONE,
    NOT_FINITE,
    ZERO,
    Bits,
    Bytes,
    Floats,
    Layout,
    Scratch,
    gather,
    put_row,
)
from thunderserve.serving.compile import kernel

BIAS, LOWEST, HIGHEST = 127, -126, 120
"""An exponent e travels as e + 127; below 2^-126 its inverse leaves float32."""
SMALLEST_NORMAL, MAGIC, ONE = np.float32(2.0**-6), np.float32(2.0**14), np.float32(1)
STEP = np.float32(2.0**-9)
"""Spacing of the e4m3 numbers below 2^-6; also that of the float32 numbers from 2^14 on, which rounds to it."""
MAGIC_BITS = 0x46800000
NAN_CODE, LAST_CODE = 0x7F, 0x7E


@kernel
def power(exponent: Any) -> Any:
    """2 ** exponent, within the normal float32 numbers."""
    return from_bits(np.uint32(exponent + 127) << np.uint32(23))


@kernel
def group_exponent(largest: Any) -> Any:
    """The smallest e (from -126) with ``largest <= 448 * 2 ** e``: 448 is 1.75 * 2 ** 8, the largest e4m3 number."""
    bits = np.int32(as_bits(largest))
    exponent = (bits >> 23) - 127 - 8 + (1 if (bits & 0x7FFFFF) > 0x600000 else 0)
    return max(exponent, LOWEST)


@kernel
def encode_floats(memory: Bits, layout: Layout, group: int, codes: Bytes, exponents: Bytes, work: Scratch) -> int:
    """See ``Kernels.encode_floats``."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    like, groups, tile = memory.dtype.type(0), -(-dim // group), 0
    for t in range(tokens):
        for h in range(heads):
            at = origin + t * token_stride + h * head_stride
            row = memory[at : at + dim] if step == 1 else gather(memory, at, step, work.row)
            for g in range(groups):
                x = row[g * group : (g + 1) * group]
                low = high = order(x[0])
                for c in range(x.shape[0]):
                    key = order(x[c])
                    low, high = min(low, key), max(high, key)
                if low < -infinity(like) or high >= infinity(like):
                    return NOT_FINITE
                exponent = group_exponent(max(abs(widen(disorder(low, like))), abs(widen(disorder(high, like)))))
                exponents[tile * groups + g] = np.uint8(exponent + BIAS)
                inverse, q = power(-exponent), codes[tile * dim + g * group : tile * dim + g * group + x.shape[0]]
                for c in range(x.shape[0]):
                    signed = as_bits(widen(x[c]) * inverse)
                    small = as_bits(from_bits(signed & np.uint32(0x7FFFFFFF)) + MAGIC) - np.uint32(MAGIC_BITS)
                    size = signed & np.uint32(0x7FFFFFFF)
                    rounded = (size + np.uint32(0x7FFFF) + ((size >> np.uint32(20)) & np.uint32(1))) >> np.uint32(20)
                    normal = rounded - np.uint32(120 << 3)
                    code = small if from_bits(size) < SMALLEST_NORMAL else normal
                    q[c] = np.uint8(code | ((signed >> np.uint32(24)) & np.uint32(128)))
            tile += 1
    return DONE


@kernel
def decode_floats(codes: Bytes, exponents: Bytes, group: int, memory: Bits, layout: Layout, work: Scratch) -> int:
    """See ``Kernels.decode_floats``. What rounding took past the largest number of the format becomes that number."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    like, groups, tile = memory.dtype.type(0), -(-dim // group), 0
    largest = widen(disorder(infinity(like) - 1, like))
    for t in range(tokens):
        for h in range(heads):
            at = origin + t * token_stride + h * head_stride
            row = memory[at : at + dim] if step == 1 else work.row
            for g in range(groups):
                x = row[g * group : (g + 1) * group]
                exponent = np.int32(exponents[tile * groups + g]) - BIAS
                if exponent < LOWEST or exponent > HIGHEST:
                    return BAD_PAYLOAD
                scale, worst, first = power(exponent), np.uint8(0), tile * dim + g * group
                q = codes[first : first + x.shape[0]]
                for c in range(x.shape[0]):
                    worst = max(worst, q[c] & np.uint8(NAN_CODE))
                    code = np.uint32(q[c]) & np.uint32(NAN_CODE)
                    normal = from_bits((code + np.uint32(120 << 3)) << np.uint32(20))
                    y = min((np.float32(np.int32(code)) * STEP if code < np.uint32(8) else normal) * scale, largest)
                    x[c] = narrow(-y if q[c] > np.uint8(127) else y, like)
                if worst > LAST_CODE:
                    return BAD_PAYLOAD
            put_row(row, memory, at, step)
            tile += 1
    return DONE


@kernel
def copy_out(memory: Bits, layout: Layout, out: Bits) -> None:
    """Values as they are, by token, head and channel."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    tile = 0
    for t in range(tokens):
        for h in range(heads):
            at = origin + t * token_stride + h * head_stride
            if step == 1:
                source, target = memory[at : at + dim], out[tile : tile + dim]
                for c in range(dim):
                    target[c] = source[c]
            else:
                gather(memory, at, step, out[tile : tile + dim])
            tile += dim


@kernel
def copy_in(data: Bits, memory: Bits, layout: Layout) -> None:
    """The inverse of ``copy_out``."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    tile = 0
    for t in range(tokens):
        for h in range(heads):
            at = origin + t * token_stride + h * head_stride
            if step == 1:
                source, target = data[tile : tile + dim], memory[at : at + dim]
                for c in range(dim):
                    target[c] = source[c]
            else:
                put_row(data[tile : tile + dim], memory, at, step)
            tile += dim


@kernel
def butterflies(a: Floats, b: Floats) -> None:
    """One pass: sums of the two halves of ``a`` and their differences, interleaved."""
    half = a.shape[0] // 2
    first, second = a[:half], a[half:]
    for i in range(half):
        b[2 * i], b[2 * i + 1] = first[i] + second[i], first[i] - second[i]


@kernel
def rotate(
    memory: Bits, layout: Layout, target: Bits, target_layout: Layout, even: Floats, odd: Floats, row: Bits
) -> None:
    """Each run of channels as long as ``even`` (a power of two) times the Hadamard matrix over its root.

    Every pass does the same to the whole run (constant geometry); after log2(size) of them that is the Sylvester matrix. What
    rounding took past the largest 16-bit number becomes that number. ``even``, ``odd`` and ``row`` are scratch.
    """
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    to, to_token, to_head, to_step = target_layout[:4]
    like, size = target.dtype.type(0), even.shape[0]
    scale = ONE / np.float32(np.sqrt(np.float64(size)))
    limit = np.float32(np.inf) if target.itemsize == 4 else widen(disorder(infinity(like) - 1, like))
    for t in range(tokens):
        for h in range(heads):
            at, put = origin + t * token_stride + h * head_stride, to + t * to_token + h * to_head
            x = memory[at : at + dim] if step == 1 else gather(memory, at, step, row)
            for block in range(0, dim, size):
                a, b, part = even, odd, x[block : block + size]
                for c in range(size):
                    a[c] = widen(part[c])
                width = 1
                while width < size:
                    butterflies(a, b)
                    a, b = b, a
                    width *= 2
                for c in range(size):
                    y = a[c] * scale + ZERO
                    y = min(y, limit)  # NaN stays, to be refused
                    a[c] = -limit if y < -limit else y  # noqa: FURB136
                first = put + block * to_step
                if to_step == 1:
                    out = target[first : first + size]
                    for c in range(size):
                        out[c] = narrow(a[c], like)
                else:
                    for c in range(size):
                        target[first + c * to_step] = narrow(a[c], like)
