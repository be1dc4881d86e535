"""Triton programs for float8 and for the rotation. Arithmetic and names as in ``quarter.py``."""

# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: ARG001 - all programs begin with the same description of a block

from __future__ import annotations

import triton
import triton.language as tl

from thunderserve.kv.kernels.triton_loops import infinity, narrow, widen


@triton.jit
def power(exponent: tl.tensor) -> tl.tensor:
    """2 ** exponent, within the normal float32 numbers."""
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def float_codes(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int,
    codes: tl.tensor, exponents: tl.tensor, status: tl.tensor, form: tl.constexpr, group: tl.constexpr, rows: tl.constexpr,
) -> None:  # fmt: skip
    """One group of channels of ``rows`` heads of tokens: e4m3 codes and exponents."""
    row, g = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows), tl.program_id(1)
    c = g * group + tl.arange(0, group)
    inside = (row < tokens * heads)[:, None] & (c[None, :] < dim)
    at = origin + (row // heads) * token_stride + (row % heads) * head_stride
    bits = tl.load(memory + at[:, None] + c[None, :] * step, mask=inside, other=0).to(tl.int32)
    word = widen(bits, form).to(tl.int32, bitcast=True)
    most = tl.max(word & 0x7FFFFFFF, 1)
    tl.atomic_max(status, tl.max(tl.where(most >= 0x7F800000, 1, 0), 0))
    exponent = tl.maximum((most >> 23) - 135 + tl.where((most & 0x7FFFFF) > 0x600000, 1, 0), -126)
    signed = (widen(bits, form) * power(-exponent)[:, None]).to(tl.int32, bitcast=True)
    size = signed & 0x7FFFFFFF
    small = (size.to(tl.float32, bitcast=True) + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - 960
    code = tl.where(size < 0x3C800000, small, normal) | ((signed >> 24) & 128)
    tl.store(codes + (row * dim)[:, None] + c[None, :], code.to(tl.uint8), mask=inside)
    tl.store(exponents + row * tl.cdiv(dim, group) + g, (exponent + 127).to(tl.uint8), mask=row < tokens * heads)


@triton.jit
def float_values(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int,
    codes: tl.tensor, exponents: tl.tensor, status: tl.tensor, form: tl.constexpr, group: tl.constexpr, rows: tl.constexpr,
) -> None:  # fmt: skip
    """The inverse; what rounding took past the largest number of the format becomes that number."""
    row, g = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows), tl.program_id(1)
    c = g * group + tl.arange(0, group)
    inside = (row < tokens * heads)[:, None] & (c[None, :] < dim)
    at = origin + (row // heads) * token_stride + (row % heads) * head_stride
    source = exponents + row * tl.cdiv(dim, group) + g
    exponent = tl.load(source, mask=row < tokens * heads, other=127).to(tl.int32) - 127
    q = tl.load(codes + (row * dim)[:, None] + c[None, :], mask=inside, other=0).to(tl.int32)
    code = q & 127
    wrong = tl.where((exponent < -126) | (exponent > 120) | (tl.max(code, 1) == 127), 3, 0)
    tl.atomic_max(status, tl.max(wrong, 0))
    normal = ((code + 960) << 20).to(tl.float32, bitcast=True)
    size = tl.where(code < 8, code.to(tl.float32) * 0.001953125, normal) * power(exponent)[:, None]
    size = tl.minimum(size, widen(tl.full(size.shape, infinity(form) - 1, tl.int32), form))
    y = narrow(tl.where(q > 127, -size, size), form)
    tl.store(memory + at[:, None] + c[None, :] * step, y.to(memory.dtype.element_ty), mask=inside)


@triton.jit
def rotate(
    memory: tl.tensor, origin: int, token_stride: int, head_stride: int, step: int, tokens: int, heads: int, dim: int,
    target: tl.tensor, to: int, to_token: int, to_head: int, to_step: int, scale: float, form: tl.constexpr, to_form:
    tl.constexpr, size: tl.constexpr, passes: tl.constexpr, rows: tl.constexpr,
) -> None:  # fmt: skip
    """``size`` channels of ``rows`` heads of tokens times the Hadamard matrix, by passes of constant geometry."""
    row, block = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows), tl.program_id(1)
    c = (block * size + tl.arange(0, size))[None, :]
    t, h, real = (row // heads)[:, None], (row % heads)[:, None], (row < tokens * heads)[:, None]
    at = origin + t * token_stride + h * head_stride + c * step
    a = widen(tl.load(memory + at, mask=real, other=0).to(tl.int32), form)
    for _ in tl.static_range(passes):
        first, second = tl.split(tl.permute(tl.reshape(a, (rows, 2, size // 2)), (0, 2, 1)))
        a = tl.reshape(tl.join(first + second, first - second), (rows, size))
    y = a * scale + 0.0
    if to_form != 2:
        limit = widen(tl.full(y.shape, infinity(to_form) - 1, tl.int32), to_form)
        y = tl.where(y > limit, limit, tl.where(y < -limit, -limit, y))
    put = to + t * to_token + h * to_head + c * to_step
    tl.store(target + put, narrow(y, to_form).to(target.dtype.element_ty), mask=real)
