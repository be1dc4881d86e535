"""Cutting a payload into its parts, each from a multiple of eight bytes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def total_bytes(sizes: Sequence[int]) -> int:
    """Bytes of a payload with parts of these sizes."""
    return sum(-(-size // 8) * 8 for size in sizes)


def cut(payload: Any, sizes: Sequence[int]) -> list[Any]:
    """The parts of ``payload``, as views."""
    parts, start = [], 0
    for size in sizes:
        parts.append(payload[start : start + size])
        start += -(-size // 8) * 8
    return parts


def clear_gaps(payload: Any, sizes: Sequence[int]) -> None:
    """Zero the bytes between the parts, so that the same values are the same bytes."""
    start = 0
    for size in sizes:
        payload[start + size : start + -(-size // 8) * 8] = 0
        start += -(-size // 8) * 8
