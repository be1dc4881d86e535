"""Time to the last token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.latency import columns

if TYPE_CHECKING:
    from harness.result import View
    from harness.statistics.value import Value

UNIT = "s"
DIRECTION = "down"
FORMULA = "last token - intended arrival"
DOC = """The whole request as its user sees it; of finished requests. Percentiles are by nearest rank: a latency that
some request had."""


def compute(view: View) -> dict[str, Value]:
    """Mean, p50, p90 and p99."""
    records = view.records
    return columns("e2e", records.latencies.e2e_s, lost=len(records) - int(records.finished.sum()))
