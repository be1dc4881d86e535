"""How much less than independent the requests of one run are: neighbours in a queue wait together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FEWEST = 64
"""Requests below which a design effect is not estimated and taken as 1."""


def design_effect(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """Variance of the mean of a series over that of independent draws, at least 1, by batch means.

    ``values`` (N,) in order of arrival. The larger of two estimates, with batches of sqrt(N) and of N / 16, so that
    slow swings of a loaded queue are seen. N independent requests say as much as N * effect of these.
    """
    count = len(values)
    series = np.asarray(values, np.float64)
    spread = float(series.var())
    if count < FEWEST or spread == 0:
        return 1.0
    lengths = {math.isqrt(count), count // 16}
    return max(1.0, *(_ratio(series, length, spread) for length in lengths))


def _ratio(series: NDArray[np.float64], length: int, spread: float) -> float:
    batches = len(series) // length
    means = series[: batches * length].reshape(batches, length).mean(axis=1)
    return float(length * means.var(ddof=1)) / spread
