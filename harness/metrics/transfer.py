"""Time to move a request's KV cache from its prefill to its decode replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.latency import columns

if TYPE_CHECKING:
    from harness.result import View
    from harness.statistics.value import Value

UNIT = "s"
DIRECTION = "down"
FORMULA = "end of KV transfer - start of KV transfer"
DOC = """Only of requests whose KV moved; null on colocated replicas. It is a part of TPOT, since it lies between the
first and the second token."""


def compute(view: View) -> dict[str, Value]:
    """Mean, p50, p90 and p99 over the requests whose KV moved."""
    return columns("transfer", view.records.transfer_s)
