"""Time to the first token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.latency import columns

if TYPE_CHECKING:
    from harness.result import View
    from harness.statistics.value import Value

UNIT = "s"
DIRECTION = "down"
FORMULA = "first token - intended arrival"
DOC = """Counts from the intended arrival, so waiting for admission, prefill and every queue on the way are inside; of
finished requests. Percentiles are by nearest rank: a latency that some request had."""


def compute(view: View) -> dict[str, Value]:
    """Mean, p50, p90 and p99."""
    records = view.records
    return columns("ttft", records.latencies.ttft_s, lost=len(records) - int(records.finished.sum()))
