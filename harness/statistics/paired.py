"""Two systems on the same requests: what the pairing says, which is far more than two separate averages do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.statistics import repeats
from harness.statistics.binomial import at_most, share_interval
from harness.statistics.bootstrap import mean_interval
from harness.statistics.correlation import design_effect
from harness.statistics.value import CONFIDENCE, Interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Difference(NamedTuple):
    """Mean of first minus second over all paired requests, its interval, and the sign that this leaves."""

    mean: float
    interval: Interval
    sign: Literal["above", "below", "undetermined"]


def mean_difference(pairs: Sequence[tuple[Floats, Floats]], *, confidence: float = CONFIDENCE) -> Difference | None:
    """First minus second, one pair of arrays (N,) a seed, request by request; NaN on either side leaves it out.

    The interval is the hull of the block bootstrap over requests and, from three seeds on, of Student's over the seeds.
    None when fewer than two requests can be paired.
    """
    gaps = [first - second for first, second in pairs]
    return _judge([gap[np.isfinite(gap)] for gap in gaps], confidence)


def share_difference(pairs: Sequence[tuple[Bools, Bools]], *, confidence: float = CONFIDENCE) -> Difference | None:
    """Difference of two shares of the same requests, in [-1, 1]. Where no request differs, a bound is left of it.

    A sign is claimed only if McNemar's exact test finds one as well: of few discordant requests a bootstrap is too sure.
    """
    gaps = [first.astype(np.float64) - second.astype(np.float64) for first, second in pairs]
    judged = _judge(gaps, confidence)
    if judged is None:
        return None
    total = sum(map(len, gaps))
    effect = max(design_effect(first) for first, _ in pairs)
    # A sample without discordant pairs still allows as many as an event never seen may have.
    reach = share_interval(0, total, confidence=confidence, effect=effect)[1]
    low, high = judged.interval
    if low == high:
        low, high = low - reach, high + reach
    if mcnemar(*(np.concatenate(side) for side in zip(*pairs, strict=True))) > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return _difference(judged.mean, (max(-1.0, low), min(1.0, high)))


def _judge(gaps: Sequence[Floats], confidence: float) -> Difference | None:
    filled = [gap for gap in gaps if len(gap)]
    interval = mean_interval(filled, confidence=confidence)
    if interval is None:
        return None
    mean = float(np.concatenate(filled).mean())
    low, high = interval
    if len(filled) >= 3:
        spread = repeats.signed([float(gap.mean()) for gap in filled], confidence=confidence).interval
        if spread is not None:
            low, high = min(low, spread[0]), max(high, spread[1])
    return _difference(mean, (low, high))


def _difference(mean: float, interval: Interval) -> Difference:
    low, high = interval
    return Difference(mean, interval, "above" if low > 0 else "below" if high < 0 else "undetermined")


def mcnemar(first: Bools, second: Bools) -> float:
    """Exact two-sided p-value for equal shares of the same independent requests (McNemar 1947, binomial form)."""
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * at_most(min(only_first, only_second), discordant, 0.5))
