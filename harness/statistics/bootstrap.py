"""Intervals of a mean over requests by resampling blocks of neighbours, so that a queue's memory is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.statistics.beta import student_quantile
from harness.statistics.value import CONFIDENCE, Interval

Floats = NDArray[np.float64]

RESAMPLES = 1000
BLOCKS = 20
"""Blocks a series is cut into: few, so that they are longer than a loaded queue's memory."""


def block_means(values: Floats, generator: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """(resamples,) means of ``values`` (N,) redrawn in blocks of N / 20 neighbours on a circle (Politis and Romano)."""
    count = len(values)
    length = max(1, count // BLOCKS)
    blocks = count // length
    # Centring first keeps the running sum from swallowing small values behind large ones.
    centre = float(values.mean())
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: length - 1]]) - centre)])
    starts = generator.integers(0, count, size=(resamples, blocks))
    totals = (sums[starts + length] - sums[starts]).sum(axis=1)
    return np.asarray(centre + totals / (blocks * length))


def mean_interval(
    groups: Sequence[Floats], *, confidence: float = CONFIDENCE, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Percentile interval of the mean over all of ``groups``, series in order of arrival, each redrawn by itself.

    Widened by Student's factor for the few blocks, and kept between the smallest and the largest value. None for fewer
    than two values.
    """
    filled = [group for group in groups if len(group)]
    total = sum(map(len, filled))
    if total < 2:
        return None
    generator = np.random.default_rng(seed)
    means = sum(block_means(group, generator, resamples) * (len(group) / total) for group in filled)
    low, high = np.quantile(np.asarray(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    mean = sum(float(group.sum()) for group in filled) / total
    blocks = sum(min(BLOCKS, len(group)) for group in filled)
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    factor = student_quantile(confidence, blocks - 1) / normal * math.sqrt(blocks / (blocks - 1))
    low, high = mean - factor * (mean - low), mean + factor * (high - mean)
    floor, ceiling = min(group.min() for group in filled), max(group.max() for group in filled)
    return max(float(low), float(floor)), min(float(high), float(ceiling))
