"""Which of the swept rates tells most, for figures that show one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.comparison import Group


def telling(groups: Sequence[Group], label: str, target: float = 0.9) -> float | None:
    """The highest rate at which some system still reaches ``target``; the lowest rate if none ever does; None for a replay."""
    rates = sorted({group.place.rate_per_s for group in groups if group.place.rate_per_s is not None})
    if not rates:
        return None
    held = [
        group.place.rate_per_s
        for group in groups
        if group.place.rate_per_s is not None and (group.value(label, "slo_attainment").value or 0.0) >= target
    ]
    return max(held, default=rates[0])
