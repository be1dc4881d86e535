"""Requests a second that met the SLO, at this cell's rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.metrics import slo_attainment
from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "requests/s"
DIRECTION = "up"
FORMULA = "offered rate x joint SLO attainment"
DOC = """Good requests a second at the rate that was offered. It is not the highest rate a system holds: that is
capacity, and has its own name."""


def compute(view: View) -> dict[str, Value]:
    """Offered rate times joint attainment, with the latter's interval."""
    share = slo_attainment.compute(view)["slo_attainment"]
    rate = view.facts.offered_rate_per_s
    if share.value is None:
        return {"goodput_per_s": share}
    interval = None if share.interval is None else (rate * share.interval[0], rate * share.interval[1])
    return {"goodput_per_s": Value(rate * share.value, interval)}
