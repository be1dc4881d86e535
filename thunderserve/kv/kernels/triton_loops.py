"""Triton programs over groups: ranges, codes, packing, and back. Bytes and arithmetic as in ``contract.py``, names as in
``quantise.py``."""

# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: ARG001 - all programs begin with the same description of a block

from __future__ import annotations

import triton
import triton.language as tl

HALF, BRAIN, SINGLE = 0, 1, 2
"""float16, bfloat16, float32 in a memory of int16, int16, int32."""


@triton.jit
def widen(bits: tl.tensor, form: tl.constexpr) -> tl.tensor:
    """Bits (int32) -> the float32 they mean."""
    if form == 0:
        return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    if form == 1:
        return (bits << 16).to(tl.float32, bitcast=True)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def narrow(x: tl.tensor, form: tl.constexpr) -> tl.tensor:
    """Finite float32 -> bits (int32, sign-extended), to the nearest, ties to even."""
    if form == 0:
        return x.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32)
    word = x.to(tl.int32, bitcast=True)
    if form == 1:
        return (word + 0x7FFF + ((word >> 16) & 1)) >> 16
    return word


@triton.jit
def order(bits: tl.tensor, form: tl.constexpr) -> tl.tensor:
    """Bits (int32, sign-extended) -> an int32 that sorts as the numbers do; its own inverse."""
    if form == 2:
        return bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return bits ^ ((bits >> 31) & 0x7FFF)


@triton.jit
def infinity(form: tl.constexpr) -> tl.constexpr:
    """``order`` of +infinity."""
    if form == 0:
        return 0x7C00
    if form == 1:
        return 0x7F80
    return 0x7F800000


@triton.jit
def ends_of(low: tl.tensor, high: tl.tensor, form: tl.constexpr, end_form: tl.constexpr) -> tl.tensor:
    """Bits of both ends of groups with these ranges, and 0, 1 or 2: done, not finite, too wide."""
    finite = (low >= -infinity(form)) & (high < infinity(form))
    lowest, highest = widen(order(low, form), form), widen(order(high, form), form)
    a, b = narrow(lowest, end_form), narrow(highest, end_form)
    a = tl.where(widen(a, end_form) > lowest, order(order(a, end_form) - 1, end_form), a)
    b = tl.where(widen(b, end_form) < highest, order(order(b, end_form) + 1, end_form), b)
    inside = (order(a, end_form) >= -infinity(end_form)) & (order(b, end_form) < infinity(end_form))
    base, top = widen(a, end_form) + 0.0, widen(b, end_form) + 0.0
    fits = inside & (top - base <= 8.507059173023462e37)
    status = tl.where(finite, tl.where(fits, 0, 2), 1)
    return narrow(base, end_form), narrow(top, end_form), status


@triton.jit
def quantise(x: tl.tensor, base: tl.tensor, top: tl.tensor, bits: tl.constexpr) -> tl.tensor:
    """Codes (int32)."""
    width = top - base
    usable = width >= 7.888609052210118e-31
    levels = tl.full(width.shape, (1 << bits) - 1, tl.float32)
    inverse = tl.where(usable, tl.div_rn(levels, tl.where(usable, width, 1.0)), 0.0)
    return ((x - base) * inverse + 0.5).to(tl.int32)


@triton.jit
def restore(q: tl.tensor, base: tl.tensor, top: tl.tensor, bits: tl.constexpr) -> tl.tensor:
    """Values."""
    width = top - base
    scale = tl.div_rn(width, tl.full(width.shape, (1 << bits) - 1, tl.float32))
    return tl.where(q == (1 << bits) - 1, top, base + q.to(tl.float32) * scale)


@triton.jit
def suspect(base_bits: tl.tensor, top_bits: tl.tensor, form: tl.constexpr) -> tl.tensor:
    """3 where no encoder writes these ends, else 0."""
    finite = (order(base_bits, form) >= -infinity(form)) & (order(top_bits, form) < infinity(form))
    width = widen(top_bits, form) - widen(base_bits, form)
    return tl.where(finite & (width >= 0.0) & (width <= 8.507059173023462e37), 0, 3)


@triton.jit
def channel_ends(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int, ends:
    tl.tensor, status: tl.tensor, form: tl.constexpr, end_form: tl.constexpr, bits: tl.constexpr, group: tl.constexpr, wide:
    tl.constexpr,
) -> None:  # fmt: skip
    """One group of tokens of one head: both ends of each channel."""
    g, h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    c = tl.arange(0, wide)
    t = g * group + tl.arange(0, group)
    at = origin + t[:, None] * token_stride + h * head_stride + c[None, :] * step
    key = order(tl.load(memory + at, mask=c[None, :] < dim, other=0).to(tl.int32), form)
    low, high, found = ends_of(tl.min(key, 0), tl.max(key, 0), form, end_form)
    edge = (g * 2 * heads + h) * dim + c
    tl.store(ends + edge, low.to(tl.int16), mask=c < dim)
    tl.store(ends + edge + heads * dim, high.to(tl.int16), mask=c < dim)
    tl.atomic_max(status, tl.max(found, 0))


@triton.jit
def channel_codes(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int, ends:
    tl.tensor, codes: tl.tensor, form: tl.constexpr, end_form: tl.constexpr, bits: tl.constexpr, group: tl.constexpr, wide:
    tl.constexpr,
) -> None:  # fmt: skip
    """One group of tokens of one head: its packed codes."""
    parts: tl.constexpr = 8 // bits
    many: tl.constexpr = group // parts
    g, h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    c, i = tl.arange(0, wide), tl.arange(0, many)
    edge = (g * 2 * heads + h) * dim + c
    base = widen(tl.load(ends + edge, mask=c < dim, other=0).to(tl.int32), end_form)
    top = widen(tl.load(ends + edge + heads * dim, mask=c < dim, other=0).to(tl.int32), end_form)
    packed = tl.zeros((many, wide), tl.int32)
    for p in tl.static_range(parts):
        at = origin + (g * group + p * many + i)[:, None] * token_stride + h * head_stride + c[None, :] * step
        x = widen(tl.load(memory + at, mask=c[None, :] < dim, other=0).to(tl.int32), form)
        packed |= quantise(x, base[None, :], top[None, :], bits) << (p * bits)
    target = ((g * many + i)[:, None] * heads + h) * dim + c[None, :]
    tl.store(codes + target, packed.to(tl.uint8), mask=c[None, :] < dim)


@triton.jit
def channel_values(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int,
    codes: tl.tensor, ends: tl.tensor, status: tl.tensor, form: tl.constexpr, end_form: tl.constexpr, bits: tl.constexpr,
    group: tl.constexpr, wide: tl.constexpr,
) -> None:  # fmt: skip
    """The inverse of both."""
    parts: tl.constexpr = 8 // bits
    many: tl.constexpr = group // parts
    g, h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    c, i = tl.arange(0, wide), tl.arange(0, many)
    edge = (g * 2 * heads + h) * dim + c
    low = tl.load(ends + edge, mask=c < dim, other=0).to(tl.int32)
    high = tl.load(ends + edge + heads * dim, mask=c < dim, other=0).to(tl.int32)
    tl.atomic_max(status, tl.max(suspect(low, high, end_form), 0))
    base, top = widen(low, end_form)[None, :], widen(high, end_form)[None, :]
    source = ((g * many + i)[:, None] * heads + h) * dim + c[None, :]
    packed = tl.load(codes + source, mask=c[None, :] < dim, other=0).to(tl.int32)
    for p in tl.static_range(parts):
        y = narrow(restore((packed >> (p * bits)) & ((1 << bits) - 1), base, top, bits), form)
        at = origin + (g * group + p * many + i)[:, None] * token_stride + h * head_stride + c[None, :] * step
        tl.store(memory + at, y.to(memory.dtype.element_ty), mask=c[None, :] < dim)


@triton.jit
def token_ends(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int, ends:
    tl.tensor, status: tl.tensor, form: tl.constexpr, end_form: tl.constexpr, bits: tl.constexpr, group: tl.constexpr, rows:
    tl.constexpr,
) -> None:  # fmt: skip
    """One group of channels of ``rows`` heads of tokens: both ends."""
    row, g = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows), tl.program_id(1)
    c = g * group + tl.arange(0, group)
    real = row < tokens * heads
    at = origin + (row // heads) * token_stride + (row % heads) * head_stride
    inside = real[:, None] & (c[None, :] < dim)
    key = order(tl.load(memory + at[:, None] + c[None, :] * step, mask=inside, other=0).to(tl.int32), form)
    least, most = tl.min(tl.where(inside, key, 0x7FFFFFFF), 1), tl.max(tl.where(inside, key, -0x7FFFFFFF), 1)
    low, high, found = ends_of(tl.where(real, least, 0), tl.where(real, most, 0), form, end_form)
    groups = tl.cdiv(dim, group)
    edge = ((row // heads) * 2 * heads + row % heads) * groups + g
    tl.store(ends + edge, low.to(tl.int16), mask=real)
    tl.store(ends + edge + heads * groups, high.to(tl.int16), mask=real)
    tl.atomic_max(status, tl.max(found, 0))


@triton.jit
def token_codes(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int, ends:
    tl.tensor, codes: tl.tensor, form: tl.constexpr, end_form: tl.constexpr, bits: tl.constexpr, group: tl.constexpr, rows:
    tl.constexpr, wide: tl.constexpr,
) -> None:  # fmt: skip
    """``rows`` tokens and ``wide`` of the bytes of each: their packed codes."""
    parts: tl.constexpr = 8 // bits
    t = (tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows))[:, None]
    i = (tl.program_id(1).to(tl.int64) * wide + tl.arange(0, wide))[None, :]
    m, groups = tl.cdiv(heads * dim, parts), tl.cdiv(dim, group)
    real = (t < tokens) & (i < m)
    packed = tl.zeros((rows, wide), tl.int32)
    for p in tl.static_range(parts):
        h, c = (p * m + i) // dim, (p * m + i) % dim
        inside = real & (h < heads)
        edge = (t * 2 * heads + h) * groups + c // group
        at = origin + t * token_stride + h * head_stride + c * step
        base = widen(tl.load(ends + edge, mask=inside, other=0).to(tl.int32), end_form)
        top = widen(tl.load(ends + edge + heads * groups, mask=inside, other=0).to(tl.int32), end_form)
        x = widen(tl.load(memory + at, mask=inside, other=0).to(tl.int32), form)
        packed |= tl.where(inside, quantise(x, base, top, bits) << (p * bits), 0)
    tl.store(codes + t * m + i, packed.to(tl.uint8), mask=real)


@triton.jit
def token_values(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int,
    codes: tl.tensor, ends: tl.tensor, status: tl.tensor, form: tl.constexpr, end_form: tl.constexpr, bits: tl.constexpr,
    group: tl.constexpr, rows: tl.constexpr, wide: tl.constexpr,
) -> None:  # fmt: skip
    """The inverse of both."""
    parts: tl.constexpr = 8 // bits
    t = (tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows))[:, None]
    i = (tl.program_id(1).to(tl.int64) * wide + tl.arange(0, wide))[None, :]
    m, groups = tl.cdiv(heads * dim, parts), tl.cdiv(dim, group)
    real = (t < tokens) & (i < m)
    packed = tl.load(codes + t * m + i, mask=real, other=0).to(tl.int32)
    for p in tl.static_range(parts):
        h, c = (p * m + i) // dim, (p * m + i) % dim
        inside = real & (h < heads)
        edge = (t * 2 * heads + h) * groups + c // group
        at = origin + t * token_stride + h * head_stride + c * step
        low = tl.load(ends + edge, mask=inside, other=0).to(tl.int32)
        high = tl.load(ends + edge + heads * groups, mask=inside, other=0).to(tl.int32)
        tl.atomic_max(status, tl.max(tl.max(suspect(low, high, end_form), 1), 0))
        code = (packed >> (p * bits)) & ((1 << bits) - 1)
        y = narrow(restore(code, widen(low, end_form), widen(high, end_form), bits), form)
        tl.store(memory + at, y.to(memory.dtype.element_ty), mask=inside)
