"""Seconds of one kernel, from its shape, the peaks of a GPU and its efficiency curves. Plain numbers or arrays in SI."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost.efficiency import DecodeAttentionCurve, ElementwiseCurve, MatmulCurve, PrefillAttentionCurve

Number = TypeVar("Number", float, NDArray[np.float64])


def matmul_s(
    curve: MatmulCurve,
    flops: float,
    bytes_per_s: float,
    m: Number,
    n: Number | float,
    k: Number | float,
    *,
    dtype_bytes: int = 2,
    weight_copies: Number | float = 1.0,
) -> Number:
    """One launch of ``(m, k) @ (k, n)``; ``weight_copies`` of the ``(k, n)`` matrix are read (experts), the rows shared."""
    compute_s = 2 * k * (m * n + curve.ramp_elements) / (curve.compute_share * flops)
    moved = dtype_bytes * (m * k + m * n + weight_copies * n * k)
    memory_s = moved / (curve.memory_share * bytes_per_s)
    p = curve.overlap
    # Scaled by the larger term so that no power over- or underflows.
    larger = np.maximum(compute_s, memory_s)
    smaller = np.minimum(compute_s, memory_s)
    seconds: Number = curve.latency_s + larger * (1 + (smaller / larger) ** p) ** (1 / p)
    return seconds


def rows(curve: PrefillAttentionCurve, heads: float, chunk: Number) -> Number:
    """Query rows of one chunk, the empty ones of its last tiles counted in."""
    counted: Number = heads * (chunk + curve.tile_rows / 2)
    return counted


def row_s(curve: PrefillAttentionCurve, flops: float, head_dim: float) -> float:
    """Seconds of one row against one key with all processors busy: two products of ``head_dim`` values."""
    return 4 * head_dim / (curve.compute_share * flops)


def pair_s(curve: PrefillAttentionCurve, flops: float, heads: float, head_dim: int, chunk: Number) -> Number:
    """Seconds a query-key pair of a causal chunk of ``chunk`` tokens, all ``heads`` of one device in one layer.

    A chunk that does not fill all processors takes as long as one that does.
    """
    busy = np.maximum(rows(curve, heads, chunk), curve.processors * curve.tile_rows)
    seconds: Number = row_s(curve, flops, head_dim) * busy / chunk
    return seconds


def moved_by_attention_s(curve: PrefillAttentionCurve, bytes_per_s: float, moved_bytes: Number) -> Number:
    """Reading Q, K and V, writing the output, and writing K and V to the cache, as far as the L2 cache does not hold them."""
    seconds: Number = np.maximum(moved_bytes - curve.cache_bytes, 0.0) / (curve.memory_share * bytes_per_s)
    return seconds


def decode_attention_s(
    curve: DecodeAttentionCurve, bytes_per_s: float, kv_bytes: Number | float, sequences: Number, keys: Number
) -> Number:
    """One new token each of ``sequences`` that read ``keys`` in all; ``kv_bytes`` a token, in one layer of one device."""
    return curve.latency_s + kv_bytes * (keys + curve.pad_tokens * sequences) / (curve.memory_share * bytes_per_s)


def elementwise_s(curve: ElementwiseCurve, bytes_per_s: float, moved_bytes: Number) -> Number:
    """One kernel that reads and writes ``moved_bytes``."""
    cached = np.minimum(moved_bytes, curve.cache_bytes)
    beyond_s = (moved_bytes - cached) / (curve.memory_share * bytes_per_s)
    seconds: Number = curve.latency_s + cached / (curve.cache_share * bytes_per_s) + beyond_s
    return seconds


def experts_touched(num_experts: int, experts_per_token: int, tokens: Number) -> Number:
    """Expected number of distinct experts that ``tokens`` visit when each picks its experts at random."""
    missed = 1 - experts_per_token / num_experts
    touched: Number = num_experts * (1 - missed**tokens)
    return touched
