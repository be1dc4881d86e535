"""Compiled loops over groups: ranges, codes, packing, and back. Bytes and arithmetic as in ``contract.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.kv.kernels.contract import LARGEST_RANGE, SMALLEST_RANGE, Status
from thunderserve.kv.kernels.numbers import disorder, infinity, narrow, order, widen
from thunderserve.serving.compile import kernel

Bits = NDArray[Any]
"""uint16, int16 or uint32, see ``numbers.py``."""
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Layout = tuple[int, int, int, int, int, int, int]
"""origin, token, head and dim stride, tokens, heads, dim: a ``Block`` without its memory."""

DONE, NOT_FINITE, TOO_WIDE, BAD_PAYLOAD = (int(status) for status in Status)
SMALLEST, LARGEST = np.float32(SMALLEST_RANGE), np.float32(LARGEST_RANGE)
RUN = 16
"""Tokens of one head decoded together where heads lie apart in memory: writing then moves in runs of some kilobytes."""
HALF_STEP, ZERO = np.float32(0.5), np.float32(0)


class Scratch(NamedTuple):
    """What the loops write besides their output; made once a shape."""

    row: Bits  # (dim,)
    codes: Bytes  # (RUN * (heads * dim + 8),)
    low: NDArray[Any]  # (heads * (dim + 1),) by ``order``
    high: NDArray[Any]
    base: Floats  # (RUN * heads * (dim / 8 + 1),) low end
    step: Floats  # (dim,) scale, or its inverse
    top: Floats  # (dim,) high end


def scratch(memory: Bits, heads: int, dim: int) -> Scratch:
    """For blocks of ``heads`` heads, ``dim`` wide, in ``memory`` of this dtype."""
    key = np.int32 if memory.dtype == np.uint32 else np.int16
    edges = RUN * heads * (dim // 8 + 1)  # groups have at least eight values
    floats = [np.zeros(edges, np.float32) for _ in range(3)]
    row, codes = np.zeros(dim, memory.dtype), np.zeros(RUN * (heads * dim + 8), np.uint8)
    return Scratch(row, codes, np.zeros(edges, key), np.zeros(edges, key), *floats)


@kernel
def gather(memory: Bits, start: int, step: int, row: Bits) -> Bits:
    """The head that starts at ``start`` and whose channels are not adjacent, in ``row``."""
    for c in range(row.shape[0]):
        row[c] = memory[start + c * step]
    return row


@kernel
def put_row(row: Bits, memory: Bits, start: int, step: int) -> None:
    """Undo ``gather``; nothing to do for a row in place."""
    if step != 1:
        for c in range(row.shape[0]):
            memory[start + c * step] = row[c]


@kernel
def pack(codes: Bytes, bits: int, out: Bytes) -> None:
    """Codes, with zeros behind them to whole bytes, into all of ``out``."""
    m = out.shape[0]
    if bits == 8:
        for i in range(m):
            out[i] = codes[i]
    elif bits == 4:
        for i in range(m):
            out[i] = codes[i] | (codes[i + m] << np.uint8(4))
    else:
        for i in range(m):
            low, high = codes[i] | (codes[i + m] << np.uint8(2)), codes[i + 2 * m] | (codes[i + 3 * m] << np.uint8(2))
            out[i] = low | (high << np.uint8(4))


@kernel
def unpack(data: Bytes, bits: int, codes: Bytes) -> None:
    """The inverse of ``pack``."""
    m, mask = data.shape[0], np.uint8((1 << bits) - 1)
    for p in range(8 // bits):
        shift = np.uint8(p * bits)
        for i in range(m):
            codes[i + p * m] = (data[i] >> shift) & mask


@kernel
def low_end(key: Any, like: Any, end: Any) -> Any:
    """Bits of the largest number of the format of ``end`` not above that of ``key`` in the format of ``like``."""
    exact = widen(disorder(key, like))
    bits = narrow(exact, end)
    if widen(bits) > exact:
        bits = disorder(order(bits) - 1, end)
    return bits


@kernel
def high_end(key: Any, like: Any, end: Any) -> Any:
    """Bits of the smallest number of the format of ``end`` not below that of ``key``."""
    exact = widen(disorder(key, like))
    bits = narrow(exact, end)
    if widen(bits) < exact:
        bits = disorder(order(bits) + 1, end)
    return bits


@kernel
def write_ends(work: Scratch, start: int, count: int, levels: np.float32, ends: Bits, edge: int, apart: int) -> int:
    """Ends of ``count`` groups from their ranges in ``work``; leaves the base and the inverse scale of each there.

    Low ends go to ``ends`` from ``edge`` on, high ends ``apart`` behind them.
    """
    like, end = work.row.dtype.type(0), ends.dtype.type(0)
    for i in range(start, start + count):
        if work.low[i] < -infinity(like) or work.high[i] >= infinity(like):
            return NOT_FINITE
        low, high = low_end(work.low[i], like, end), high_end(work.high[i], like, end)
        if order(low) < -infinity(end) or order(high) >= infinity(end):
            return TOO_WIDE
        base, top = widen(low) + ZERO, widen(high) + ZERO  # -0 becomes +0
        width = top - base
        if width > LARGEST:
            return TOO_WIDE
        ends[edge + i - start], ends[edge + apart + i - start] = narrow(base, end), narrow(top, end)
        work.base[i] = base
        work.step[i] = levels / width if width >= SMALLEST else ZERO
    return DONE


@kernel
def read_ends(ends: Bits, edge: int, apart: int, count: int, levels: np.float32, work: Scratch, start: int) -> int:
    """Base, scale and top of ``count`` groups."""
    for i in range(start, start + count):
        low, high = ends[edge + i - start], ends[edge + apart + i - start]
        work.base[i], work.top[i] = widen(low), widen(high)
        width = work.top[i] - work.base[i]
        if not ZERO <= width <= LARGEST:  # nor where either is NaN or infinite
            return BAD_PAYLOAD
        work.step[i] = width / levels
    return DONE


@kernel
def channel_ranges(memory: Bits, layout: Layout, first: int, head: int, many: int, group: int, work: Scratch) -> None:
    """Lowest and highest of each channel of ``many`` heads over ``group`` tokens."""
    origin, token_stride, head_stride, step, _, _, dim = layout
    for t in range(group):
        for h in range(many):
            at = origin + (first + t) * token_stride + (head + h) * head_stride
            x = memory[at : at + dim] if step == 1 else gather(memory, at, step, work.row)
            low, high = work.low[h * dim : (h + 1) * dim], work.high[h * dim : (h + 1) * dim]
            if t == 0:
                for c in range(dim):
                    low[c] = high[c] = order(x[c])
            for c in range(dim):
                key = order(x[c])
                low[c], high[c] = min(low[c], key), max(high[c], key)


@kernel
def encode_channels(
    memory: Bits, layout: Layout, bits: int, group: int, codes: Bytes, ends: Bits, work: Scratch
) -> int:
    """See ``Kernels.encode_channels``. Heads are taken together where they are neighbours in memory."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    levels, parts, width = np.float32((1 << bits) - 1), 8 // bits, heads * dim
    many = heads if head_stride < token_stride else 1
    for first in range(0, tokens, group):
        edge, tile = 2 * width * (first // group), width * (first // parts)
        for head in range(0, heads, many):
            channel_ranges(memory, layout, first, head, many, group, work)
            for h in range(head, head + many):
                status = write_ends(work, (h - head) * dim, dim, levels, ends, edge + h * dim, width)
                if status != DONE:
                    return status
            for i in range(group // parts):
                for h in range(head, head + many):
                    low, scale = work.base[(h - head) * dim : (h - head + 1) * dim], work.step[(h - head) * dim :]
                    for p in range(parts):
                        at = origin + (first + i + p * group // parts) * token_stride + h * head_stride
                        x = memory[at : at + dim] if step == 1 else gather(memory, at, step, work.row)
                        q = work.codes[p * dim : (p + 1) * dim]
                        for c in range(dim):
                            q[c] = np.uint8(np.int32((widen(x[c]) - low[c]) * scale[c] + HALF_STEP))
                    at = tile + i * width + h * dim
                    pack(work.codes, bits, codes[at : at + dim])
    return DONE


@kernel
def decode_channels(
    codes: Bytes, ends: Bits, bits: int, group: int, memory: Bits, layout: Layout, work: Scratch
) -> int:
    """See ``Kernels.decode_channels``."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    last, parts, width, like = (1 << bits) - 1, 8 // bits, heads * dim, memory.dtype.type(0)
    many = heads if head_stride < token_stride else 1
    for first in range(0, tokens, group):
        edge, tile = 2 * width * (first // group), width * (first // parts)
        for head in range(0, heads, many):
            for h in range(head, head + many):
                status = read_ends(ends, edge + h * dim, width, dim, np.float32(last), work, (h - head) * dim)
                if status != DONE:
                    return status
            for i in range(group // parts):
                for h in range(head, head + many):
                    at = tile + i * width + h * dim
                    unpack(codes[at : at + dim], bits, work.codes)
                    a, b = (h - head) * dim, (h - head + 1) * dim
                    low, scale, top = work.base[a:b], work.step[a:b], work.top[a:b]
                    for p in range(parts):
                        at = origin + (first + i + p * group // parts) * token_stride + h * head_stride
                        x = memory[at : at + dim] if step == 1 else work.row
                        q = work.codes[p * dim : (p + 1) * dim]
                        for c in range(dim):
                            y = low[c] + np.float32(np.int32(q[c])) * scale[c]
                            x[c] = narrow(top[c] if q[c] == last else y, like)
                        put_row(x, memory, at, step)
    return DONE


@kernel
def encode_tokens(memory: Bits, layout: Layout, bits: int, group: int, codes: Bytes, ends: Bits, work: Scratch) -> int:
    """See ``Kernels.encode_tokens``."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    groups, width = -(-dim // group), heads * dim
    levels, size, count = np.float32((1 << bits) - 1), -(-width * bits // 8), heads * groups
    for c in range(width, width + 8):
        work.codes[c] = 0
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
                work.low[h * groups + g], work.high[h * groups + g] = low, high
        status = write_ends(work, 0, count, levels, ends, 2 * t * count, count)
        if status != DONE:
            return status
        for h in range(heads):
            at = origin + t * token_stride + h * head_stride
            row = memory[at : at + dim] if step == 1 else gather(memory, at, step, work.row)
            for g in range(groups):
                x, first = row[g * group : (g + 1) * group], h * dim + g * group
                base, inverse, q = (
                    work.base[h * groups + g],
                    work.step[h * groups + g],
                    work.codes[first : first + x.shape[0]],
                )
                for c in range(x.shape[0]):
                    q[c] = np.uint8(np.int32((widen(x[c]) - base) * inverse + HALF_STEP))
        pack(work.codes, bits, codes[t * size : (t + 1) * size])
    return DONE


@kernel
def decode_tokens(codes: Bytes, ends: Bits, bits: int, group: int, memory: Bits, layout: Layout, work: Scratch) -> int:
    """See ``Kernels.decode_tokens``."""
    origin, token_stride, head_stride, step, tokens, heads, dim = layout
    last, groups, like = (1 << bits) - 1, -(-dim // group), memory.dtype.type(0)
    count, size, apart = heads * groups, -(-heads * dim * bits // 8), heads * dim + 8
    span = RUN if head_stride > token_stride else 1
    for first in range(0, tokens, span):
        stop = min(first + span, tokens)
        for t in range(first, stop):
            status = read_ends(ends, 2 * t * count, count, count, np.float32(last), work, (t - first) * count)
            if status != DONE:
                return status
            unpack(codes[t * size : (t + 1) * size], bits, work.codes[(t - first) * apart :])
        for h in range(heads):
            for t in range(first, stop):
                at = origin + t * token_stride + h * head_stride
                row = memory[at : at + dim] if step == 1 else work.row
                tile, start = (t - first) * count + h * groups, (t - first) * apart + h * dim
                for g in range(groups):
                    x, a = row[g * group : (g + 1) * group], start + g * group
                    q, base, scale, top = (
                        work.codes[a : a + x.shape[0]],
                        work.base[tile + g],
                        work.step[tile + g],
                        work.top[tile + g],
                    )
                    for c in range(x.shape[0]):
                        y = base + np.float32(np.int32(q[c])) * scale
                        x[c] = narrow(top if q[c] == last else y, like)
                put_row(row, memory, at, step)
    return DONE
