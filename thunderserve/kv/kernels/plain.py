"""The same kernels in plain numpy, one step after the other over whole arrays: the twin that the fast ones must equal
bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from thunderserve.kv.kernels.compiled import hadamard_size
from thunderserve.kv.kernels.contract import LARGEST_RANGE, SMALLEST_RANGE, Status
from thunderserve.kv.wire.contract import Block, Dtype

Floats = NDArray[np.float32]
ENDS = {Dtype.FLOAT16: Dtype.FLOAT16, Dtype.BFLOAT16: Dtype.BFLOAT16, Dtype.FLOAT32: Dtype.FLOAT16}
LARGEST = {Dtype.FLOAT16: 65504.0, Dtype.BFLOAT16: 2.0**127 * (2 - 2.0**-7), Dtype.FLOAT32: 2.0**127 * (2 - 2.0**-23)}


def look(x: Block) -> NDArray[Any]:
    """The bits of ``x`` as an array (tokens, heads, dim) over its memory."""
    strides = (x.token_stride, x.head_stride, x.dim_stride)
    width = x.memory.itemsize
    return as_strided(x.memory[x.origin :], (x.tokens, x.heads, x.dim), tuple(width * stride for stride in strides))


def widen(bits: NDArray[Any], dtype: Dtype) -> Floats:
    """Bits to the float32 they mean."""
    if dtype is Dtype.FLOAT16:
        return bits.view(np.float16).astype(np.float32)
    if dtype is Dtype.FLOAT32:
        return bits.view(np.float32)
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrow(x: Floats, dtype: Dtype) -> NDArray[Any]:
    """Finite float32 to bits, to the nearest, ties to even; beyond the largest float16 lies infinity."""
    if dtype is Dtype.FLOAT16:
        with np.errstate(over="ignore"):
            return x.astype(np.float16).view(np.uint16)
    word = np.ascontiguousarray(x, np.float32).view(np.uint32)
    if dtype is Dtype.FLOAT32:
        return word
    odd = (word >> np.uint32(16)) & np.uint32(1)
    return ((word + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16).view(np.int16)


def outwards(x: Floats, dtype: Dtype, way: float) -> Floats:
    """The nearest numbers of ``dtype`` not inside of ``x`` (``way``: -inf for low ends, inf for high ones); +0 for -0."""
    near = widen(narrow(x, dtype), dtype)
    if dtype is Dtype.FLOAT16:
        with np.errstate(over="ignore"):
            near = np.where((near - x) * np.sign(way) < 0, np.nextafter(near.astype(np.float16), np.float16(way)), near)
    return near.astype(np.float32) + np.float32(0)


def ranges(x: Floats, dtype: Dtype, axis: int, bits: int) -> tuple[Floats, Floats, Floats] | Status:
    """Low ends, high ends and inverse scales of the groups along ``axis``, which stays with length 1."""
    if not np.isfinite(x).all():
        return Status.NOT_FINITE
    low, high = (
        outwards(x.min(axis, keepdims=True), dtype, -np.inf),
        outwards(x.max(axis, keepdims=True), dtype, np.inf),
    )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        width = high - low
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (width <= np.float32(LARGEST_RANGE)).all()):
            return Status.TOO_WIDE
        inverse = np.where(width >= np.float32(SMALLEST_RANGE), np.float32((1 << bits) - 1) / width, np.float32(0))
    return low, high, inverse


def quantise(x: Floats, low: Floats, inverse: Floats) -> NDArray[np.uint8]:
    """Codes."""
    return ((x - low) * inverse + np.float32(0.5)).astype(np.int32).astype(np.uint8)


def restore(codes: NDArray[np.uint8], low: Floats, high: Floats, bits: int) -> Floats:
    """Values."""
    last = (1 << bits) - 1
    found: Floats = np.where(codes == last, high, low + codes.astype(np.float32) * ((high - low) / np.float32(last)))
    return found


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes of shape (..., parts, m) to bytes of shape (..., m)."""
    shifts = (np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits))[:, None]
    found: NDArray[np.uint8] = np.bitwise_or.reduce(codes << shifts, axis=-2)
    return found


def unpack(data: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The inverse of ``pack``."""
    shifts = (np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits))[:, None]
    return (data[..., None, :] >> shifts) & np.uint8((1 << bits) - 1)


def bad(low: Floats, high: Floats) -> bool:
    """Whether no encoder writes these ends."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
        return not (np.isfinite(low) & np.isfinite(high) & (width >= 0) & (width <= np.float32(LARGEST_RANGE))).all()


class Plain:
    """``Kernels``, slowly."""

    def encode_channels(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """See ``Kernels``."""
        if x.tokens == 0 or x.heads * x.dim == 0:
            return Status.DONE
        values = widen(look(x), x.dtype).reshape(-1, group, x.heads, x.dim)
        found = ranges(values, ENDS[x.dtype], 1, bits)
        if isinstance(found, Status):
            return found
        low, high, inverse = found
        q, parts = quantise(values, low, inverse), 8 // bits
        q = q.reshape(-1, parts, group // parts * x.heads * x.dim)
        codes[:] = pack(q, bits).reshape(-1)
        both = np.stack([low[:, 0], high[:, 0]], axis=1)
        ends[:] = narrow(both, ENDS[x.dtype]).reshape(-1).view(np.uint8)
        return Status.DONE

    def decode_channels(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """See ``Kernels``."""
        if x.tokens == 0 or x.heads * x.dim == 0:
            return Status.DONE
        both = widen(ends.view(x.memory.dtype if x.dtype.bytes == 2 else np.uint16), ENDS[x.dtype])
        both = both.reshape(-1, 2, 1, x.heads, x.dim)
        low, high = both[:, 0], both[:, 1]
        if bad(low, high):
            return Status.BAD_PAYLOAD
        q = unpack(codes.reshape(x.tokens // group, -1), bits).reshape(-1, group, x.heads, x.dim)
        look(x)[:] = narrow(restore(q, low, high, bits), x.dtype).reshape(x.tokens, x.heads, x.dim)
        return Status.DONE

    def encode_tokens(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """See ``Kernels``."""
        values, parts = widen(look(x), x.dtype), 8 // bits
        q, width = np.zeros((x.tokens, x.heads, x.dim), np.uint8), x.heads * x.dim
        both = np.zeros((x.tokens, 2, x.heads, -(-x.dim // group)), np.float32)
        for g, start in enumerate(range(0, x.dim, group)):
            part = values[:, :, start : start + group]
            found = ranges(part, ENDS[x.dtype], 2, bits)
            if isinstance(found, Status):
                return found
            low, high, inverse = found
            both[:, 0, :, g], both[:, 1, :, g] = low[..., 0], high[..., 0]
            q[:, :, start : start + part.shape[2]] = quantise(part, low, inverse)
        padded = np.pad(q.reshape(x.tokens, width), ((0, 0), (0, -width % parts)))
        codes[:] = pack(padded.reshape(x.tokens, parts, padded.shape[1] // parts), bits).reshape(-1)
        ends[:] = narrow(both, ENDS[x.dtype]).reshape(-1).view(np.uint8)
        return Status.DONE

    def decode_tokens(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """See ``Kernels``."""
        both = widen(ends.view(x.memory.dtype if x.dtype.bytes == 2 else np.uint16), ENDS[x.dtype])
        both = both.reshape(x.tokens, 2, x.heads, -(-x.dim // group))
        both = np.repeat(both, group, axis=3)[..., : x.dim]
        low, high = both[:, 0], both[:, 1]
        if bad(low, high):
            return Status.BAD_PAYLOAD
        width, m = x.heads * x.dim, -(-x.heads * x.dim * bits // 8)
        flat = unpack(codes.reshape(x.tokens, m), bits).reshape(x.tokens, m * 8 // bits)
        q = flat[:, :width].reshape(x.tokens, x.heads, x.dim)
        look(x)[:] = narrow(restore(q, low, high, bits), x.dtype)
        return Status.DONE

    def encode_floats(self, x: Block, group: int, codes: Any, exponents: Any) -> int:
        """See ``Kernels``. The code of a number is how many smaller e4m3 numbers there are, ties to the even code."""
        values = widen(look(x), x.dtype)
        if not np.isfinite(values).all():
            return Status.NOT_FINITE
        groups = -(-x.dim // group)
        found, scales = np.zeros(values.shape, np.uint8), np.zeros((x.tokens, x.heads, groups), np.uint8)
        middles = (e4m3()[1:127] + e4m3()[:126]) / 2
        for g in range(groups):
            part = values[:, :, g * group : (g + 1) * group].astype(np.float64)
            largest = np.maximum(np.abs(part).max(2, keepdims=True), 2.0**-126)
            mantissa, power = np.frexp(largest)
            exponent = np.maximum(power - 9 + (mantissa > 0.875), -126)
            scaled = np.abs(part) * 2.0**-exponent
            above, below = np.searchsorted(middles, scaled, "right"), np.searchsorted(middles, scaled, "left")
            q = np.where(above % 2 == 0, above, below)
            found[:, :, g * group : (g + 1) * group] = q | (np.signbit(part).astype(np.int64) << 7)
            scales[:, :, g] = exponent[..., 0] + 127
        codes[:], exponents[:] = found.reshape(-1), scales.reshape(-1)
        return Status.DONE

    def decode_floats(self, codes: Any, exponents: Any, group: int, x: Block) -> int:
        """See ``Kernels``."""
        q = codes.reshape(x.tokens, x.heads, x.dim)
        scales = exponents.reshape(x.tokens, x.heads, -(-x.dim // group)).astype(np.int64) - 127
        scales = np.repeat(scales, group, axis=2)[..., : x.dim]
        if (q & 0x7F).max(initial=0) == 0x7F or ((scales < -126) | (scales > 120)).any():
            return Status.BAD_PAYLOAD
        size = np.minimum(e4m3()[q & 0x7F] * 2.0**scales, LARGEST[x.dtype])
        look(x)[:] = narrow(np.where(q > 127, -size, size).astype(np.float32), x.dtype)
        return Status.DONE

    def rotate(self, x: Block, y: Block) -> None:
        """See ``Kernels``. Bit for bit only because each pass adds the same pairs as the fast ones do."""
        size = hadamard_size(x.dim)
        values = widen(look(x), x.dtype).reshape(x.tokens, x.heads, x.dim // size, size)
        width = 1
        while width < size:
            first, second = values[..., : size // 2], values[..., size // 2 :]
            values = np.stack([first + second, first - second], axis=-1).reshape(values.shape)
            width *= 2
        scale = np.float32(1) / np.float32(np.sqrt(np.float64(size)))
        limit = np.float32(np.inf if y.dtype is Dtype.FLOAT32 else LARGEST[y.dtype])
        turned = np.clip(values * scale + np.float32(0), -limit, limit)
        look(y)[:] = narrow(turned, y.dtype).reshape(x.tokens, x.heads, x.dim)

    def floats(self, tokens: int, heads: int, dim: int) -> Block:
        """See ``Kernels``."""
        memory = np.zeros(tokens * heads * dim, np.uint32)
        return Block(memory, 0, heads * dim, dim, 1, tokens, heads, dim, Dtype.FLOAT32)

    def copy_out(self, x: Block, out: Any) -> None:
        """See ``Kernels``."""
        out[:] = np.ascontiguousarray(look(x)).reshape(-1).view(np.uint8)

    def copy_in(self, data: Any, x: Block) -> None:
        """See ``Kernels``."""
        look(x)[:] = data.view(x.memory.dtype).reshape(x.tokens, x.heads, x.dim)


def e4m3() -> NDArray[np.float64]:
    """The 127 finite magnitudes of float8 e4m3 by their code, and 480 where NaN is."""
    code = np.arange(128)
    return np.where(code < 8, code * 2.0**-9, (1 + code % 8 / 8) * 2.0 ** (code // 8 - 7))
