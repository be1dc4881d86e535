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


def pair_s(curve: PrefillAttentionCurve, flops: float, heads: float, head_dim: int, chunk: Number) -> Number:
    """Seconds a query-key pair of a causal chunk of ``chunk`` tokens, all ``heads`` of one device in one layer."""
    busy = heads + (heads * curve.ramp_tokens + curve.ramp_head_tokens) / chunk
    seconds: Number = 4 * head_dim * busy / (curve.compute_share * flops)
    return seconds


def decode_attention_s(
    curve: DecodeAttentionCurve, bytes_per_s: float, kv_bytes: float, sequences: Number, keys: Number
) -> Number:
    """One new token each of ``sequences`` that read ``keys`` in all; ``kv_bytes`` a token, in one layer of one device."""
    return curve.latency_s + kv_bytes * (keys + curve.pad_tokens * sequences) / (curve.memory_share * bytes_per_s)


def elementwise_s(curve: ElementwiseCurve, bytes_per_s: float, moved_bytes: Number) -> Number:
    """One kernel that reads and writes ``moved_bytes``."""
    return curve.latency_s + moved_bytes / (curve.memory_share * bytes_per_s)


def experts_touched(num_experts: int, experts_per_token: int, tokens: Number) -> Number:
    """Expected number of distinct experts that ``tokens`` visit when each picks its experts at random."""
    missed = 1 - experts_per_token / num_experts
    touched: Number = num_experts * (1 - missed**tokens)
    return touched
