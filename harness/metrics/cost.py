"""What a token, and a good request, costs on the cards that were rented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.metrics import goodput, throughput
from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "USD per million tokens, tokens/USD, requests/USD"
DIRECTION = "down"
FORMULA = "price of the whole cluster per hour / (tokens/s x 3600)"
DOC = """The whole cluster is paid while it serves, used or not. USD per million input and output tokens, and per
million output tokens; tokens for a dollar; and good requests for a dollar (goodput per hour / price per hour; higher
is better). Below saturation it says what this load cost, not the least a token can cost."""


def compute(view: View) -> dict[str, Value]:
    """USD per million tokens of both kinds and of output, and what a dollar buys."""
    price = view.facts.price_per_hour
    speeds = throughput.compute(view)
    good = goodput.compute(view)["goodput_per_s"]
    both, output = speeds["throughput_tokens_per_s"].value, speeds["throughput_output_tokens_per_s"].value
    free = Value(None, None, "the cluster has no price")
    return {
        "cost_usd_per_million_tokens": _per_million(price, both),
        "cost_usd_per_million_output_tokens": _per_million(price, output),
        "tokens_per_usd": Value((both or 0.0) * 3600 / price) if price else free,
        "goodput_per_usd": _scaled(good, 3600 / price) if price else free,
    }


def _per_million(price_per_hour: float, tokens_per_s: float | None) -> Value:
    if not tokens_per_s:
        return Value(None, None, "no tokens were served")
    return Value(price_per_hour / 3600 / tokens_per_s * 1e6)


def _scaled(value: Value, factor: float) -> Value:
    if value.value is None:
        return value
    interval = None if value.interval is None else (value.interval[0] * factor, value.interval[1] * factor)
    return Value(value.value * factor, interval)
