"""A measured number with what is known of its uncertainty."""

from __future__ import annotations

from typing import NamedTuple

Interval = tuple[float, float]

CONFIDENCE = 0.95
"""Of every two-sided interval in tables and figures."""


class Value(NamedTuple):
    """``value`` is None where the quantity is not defined; ``interval`` holds it; ``flag`` warns in words."""

    value: float | None
    interval: Interval | None = None
    flag: str | None = None
