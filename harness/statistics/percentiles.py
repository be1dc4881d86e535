"""Percentiles by nearest rank, with order-statistic intervals, and the sample a tail needs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.statistics.correlation import design_effect
from harness.statistics.value import CONFIDENCE, Interval, Value

Floats = NDArray[np.float64]


def percentile(values: Floats, share: float) -> Value:
    """The smallest observed value that at least ``share`` of ``values`` (N,), in order of arrival, do not exceed.

    Null for no values. The interval is made of order statistics; where N is too small to have one the value is flagged.
    """
    count = len(values)
    if count == 0:
        return Value(None, None, "no values")
    ordered = np.sort(values)
    point = float(ordered[_rank(count, share) - 1])
    effect = design_effect(values <= point)
    interval = order_interval(ordered, share, effect=effect)
    if interval is not None:
        return Value(point, interval)
    like = f", which say as much as {count / effect:.0f} independent ones" if effect > 1 else ""
    return Value(
        point, None, f"p{share * 100:g} from {count} requests{like}; its interval needs {minimum_sample(share)}"
    )


def _rank(count: int, share: float) -> int:
    """1-based nearest rank. The small slack keeps 0.9 * 10 = 9.000000000000002 from becoming rank 10."""
    return min(count, max(1, math.ceil(count * share - 1e-9)))


def order_interval(
    ordered: Floats, share: float, *, confidence: float = CONFIDENCE, effect: float = 1.0
) -> Interval | None:
    """Two of the ``ordered`` values (N,) that hold the true percentile with ``confidence``; None if N is too small.

    With X_(l) and X_(u) the coverage is P(l <= B < u), B ~ Binomial(N, share) (David, Nagaraja: Order Statistics, 7.1).
    Correlated values count as N / effect; their ranks are spread back over all N.
    """
    count = len(ordered)
    independent = max(1, int(count / effect))
    ranks = order_ranks(independent, share, confidence)
    if ranks is None:
        return None
    stretch = count / independent
    low = max(1, math.floor(ranks[0] * stretch))
    high = min(count, math.ceil(ranks[1] * stretch))
    return float(ordered[low - 1]), float(ordered[high - 1])


def order_ranks(count: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """1-based ranks (l, u), each tail at most (1 - confidence) / 2; None when one of them does not exist."""
    first, chances = binomial_window(count, share)
    below = np.cumsum(chances)
    alpha = (1 - confidence) / 2
    # P(B <= l - 1) <= alpha and P(B <= u - 1) >= 1 - alpha.
    low = first + int(np.searchsorted(below, alpha, side="right"))
    high = first + int(np.searchsorted(below, 1 - alpha, side="left")) + 1
    return (low, high) if low >= 1 and high <= count else None


def binomial_window(count: int, share: float) -> tuple[int, Floats]:
    """First k and P(B = k) for consecutive k around the mean of B ~ Binomial(count, share); 1e-14 lies outside."""
    width = 9 * math.sqrt(count * share * (1 - share)) + 40
    first = max(0, math.floor(count * share - width))
    last = min(count, math.ceil(count * share + width))
    k = np.arange(first, last)
    steps = np.log((count - k) / (k + 1)) + math.log(share / (1 - share))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    chances = np.exp(logs - logs.max())
    return first, chances / chances.sum()


def minimum_sample(share: float, confidence: float = CONFIDENCE) -> int:
    """The fewest independent values that give this percentile an interval: 6, 36 and 368 for p50, p90, p99."""
    tail = max(share, 1 - share)
    return math.ceil(math.log((1 - confidence) / 2) / math.log(tail))
