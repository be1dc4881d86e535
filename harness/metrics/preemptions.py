"""How often running requests were thrown out to make room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "per request"
DIRECTION = "down"
FORMULA = "preemptions / requests offered"
DOC = """Each preemption throws a request's KV cache away and computes it again: a sign that memory, not compute, is
short."""


def compute(view: View) -> dict[str, Value]:
    """Mean number a request."""
    records = view.records
    if len(records) == 0:
        return {"preemptions_per_request": Value(None, None, "no requests were offered")}
    return {"preemptions_per_request": Value(int(records.preemptions.sum()) / len(records))}
