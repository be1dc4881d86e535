"""Share of the offered requests that met the SLO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.binomial import share_interval
from harness.statistics.correlation import design_effect
from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "share of requests"
DIRECTION = "up"
FORMULA = "requests that finished within the limit(s) / requests offered"
DOC = """The denominator is every request offered in the window: an error, a timeout or a reject is a miss, and the
run is drained, never cut. Joint means TTFT, TPOT and E2E together; the single ones count one limit each. A request of
one output token has no TPOT and meets its limit. Interval: Clopper-Pearson for the effective number of independent
requests."""


def compute(view: View) -> dict[str, Value]:
    """Joint, and for TTFT, TPOT and E2E alone."""
    met = view.met
    kinds = {"": met.joint, "_ttft": met.ttft, "_tpot": met.tpot, "_e2e": met.e2e}
    offered = len(view.records)
    if offered == 0:
        return {f"slo_attainment{kind}": Value(None, None, "no requests were offered") for kind in kinds}
    return {
        f"slo_attainment{kind}": Value(
            float(good.mean()), share_interval(int(good.sum()), offered, effect=design_effect(good))
        )
        for kind, good in kinds.items()
    }
