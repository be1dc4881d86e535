"""Requests that were filtered out before serving, and those that did not finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "requests"
DIRECTION = "down"
FORMULA = "dropped: taken out of the source by a filter; unfinished: offered, and rejected or failed"
DOC = """What a filter dropped was never offered and is in no denominator; it is the same for every system. What was
offered and did not finish is a miss in every attainment."""


def compute(view: View) -> dict[str, Value]:
    """Counts of both kinds, with the reasons of the first as its flag."""
    reasons = {reason: count for reason, count in view.facts.dropped.items() if count}
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    unfinished = len(view.records) - int(view.records.finished.sum())
    return {
        "dropped_requests": Value(float(sum(reasons.values())), None, told or None),
        "unfinished_requests": Value(float(unfinished)),
    }
