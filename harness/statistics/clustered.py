"""Means over questions that come in groups: turns of a conversation are not independent, so groups are drawn, not questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.statistics.value import CONFIDENCE, Interval

Floats = NDArray[np.float64]

RESAMPLES = 10_000


def resampled_means(values: Floats, groups: Sequence[object], *, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """(resamples,) means of ``values`` (N,) when whole groups are drawn with replacement (cluster bootstrap)."""
    _, index = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    sums = np.bincount(index, weights=values)
    sizes = np.bincount(index).astype(np.float64)
    count = len(sizes)
    # How often each group is drawn, rather than which: the same distribution, one product for all resamples.
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray((drawn @ sums) / (drawn @ sizes))


def interval(means: Floats, *, confidence: float = CONFIDENCE) -> Interval:
    """Percentile interval of resampled means."""
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def standard_error(values: Floats, groups: Sequence[object]) -> float:
    """Of the mean, counting the spread between groups (the cluster-robust, "sandwich" estimate).

    With every question a group of its own it is the usual s / sqrt(n). NaN for a single group.
    """
    _, index = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    if count < 2:
        return float("nan")
    totals = np.bincount(index, weights=values - values.mean())
    return float(np.sqrt(count / (count - 1) * (totals**2).sum()) / len(values))
