"""Rate that was offered, and rate that was served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.metrics import throughput
from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "requests/s"
DIRECTION = ""
FORMULA = "offered: requests / time of the last arrival; achieved: finished requests / time of the last finish"
DOC = """The offered rate is that of the schedule itself, not of the sweep file: a random schedule never has exactly
the rate it was drawn for. An achieved rate far below it means the queue was still growing when the last request
came."""

BEHIND = 0.8
"""Achieved over offered rate below which a cell is flagged."""


def compute(view: View) -> dict[str, Value]:
    """Offered and achieved."""
    offered = view.facts.offered_rate_per_s
    achieved = throughput.compute(view)["throughput_requests_per_s"].value or 0.0
    behind = offered > 0 and achieved < BEHIND * offered
    flag = f"served {achieved:.3g} requests/s of {offered:.3g} offered: the queue grew" if behind else None
    return {"offered_rate_per_s": Value(offered), "achieved_rate_per_s": Value(achieved, None, flag)}
