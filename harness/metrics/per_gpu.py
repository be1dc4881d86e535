"""Rates divided by the number of cards, for clusters of different size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.metrics import goodput, throughput
from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "per second and GPU"
DIRECTION = "up"
FORMULA = "goodput, throughput or offered rate / number of GPUs of the cluster"
DOC = """Divided by every card of the cluster, used or not. Across unlike cards compare per dollar instead."""


def compute(view: View) -> dict[str, Value]:
    """Goodput, tokens and offered rate, each per GPU."""
    cards = view.facts.num_gpus
    good = goodput.compute(view)["goodput_per_s"]
    tokens = throughput.compute(view)["throughput_tokens_per_s"].value or 0.0
    interval = None if good.interval is None else (good.interval[0] / cards, good.interval[1] / cards)
    return {
        "goodput_per_gpu_per_s": Value(None if good.value is None else good.value / cards, interval),
        "throughput_per_gpu_tokens_per_s": Value(tokens / cards),
        "offered_rate_per_gpu_per_s": Value(view.facts.offered_rate_per_s / cards),
    }
