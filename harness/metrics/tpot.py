"""Time per output token after the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.latency import columns

if TYPE_CHECKING:
    from harness.result import View
    from harness.statistics.value import Value

UNIT = "s"
DIRECTION = "down"
FORMULA = "(last token - first token) / (output tokens - 1)"
DOC = """One number a request, so a long answer weighs no more than a short one (ITL is the other way round). Not
defined for one output token: such requests are left out here and meet any TPOT limit. Moving the KV cache lies
between the first and the second token, so it is inside."""


def compute(view: View) -> dict[str, Value]:
    """Mean, p50, p90 and p99 over the requests with two tokens or more."""
    records = view.records
    return columns("tpot", records.latencies.tpot_s, lost=len(records) - int(records.finished.sum()))
