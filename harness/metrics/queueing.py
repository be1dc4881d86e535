"""Time in line before prefill starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.latency import columns

if TYPE_CHECKING:
    from harness.result import View
    from harness.statistics.value import Value

UNIT = "s"
DIRECTION = "down"
FORMULA = "prefill start - intended arrival"
DOC = """The part of TTFT that is only waiting. Grows without end when a system is offered more than it can take."""


def compute(view: View) -> dict[str, Value]:
    """Mean, p50, p90 and p99."""
    records = view.records
    return columns(
        "queueing", records.prefill_start_s - records.arrival_s, lost=len(records) - int(records.finished.sum())
    )
