"""Gaps between requests, with mean 1, and the times that follow from them at a rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thunderserve.spec import draw
from thunderserve.workload.file import Arrivals, GammaArrivals, Segment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_NS = 1e9


def unit_gaps(arrivals: Arrivals, seed: int, purpose: str, count: int) -> Floats:
    """``count`` gaps of mean 1, the first before the first request. Not for replay."""
    if isinstance(arrivals, GammaArrivals):
        return gamma(arrivals.shape, seed, purpose, count) / arrivals.shape
    if arrivals.kind == "constant":
        return np.ones(count)
    return -draw.ln(draw.uniform(seed, purpose, count))


def gamma(shape: float, seed: int, purpose: str, count: int) -> Floats:
    """Gamma values of scale 1 (Marsaglia and Tsang 2000), the i-th from the i-th numbers of each round's streams.

    Shapes below 1 come from shape + 1 by the factor U ** (1 / shape).
    """
    if shape < 1:
        power = draw.exp(draw.ln(draw.uniform(seed, f"{purpose}/power", count)) / shape)
        return gamma(shape + 1, seed, purpose, count) * power
    d = shape - 1 / 3
    c = 1 / np.sqrt(9 * d)
    values, waiting, turn = np.zeros(count), np.arange(count), 0
    while len(waiting):
        z = draw.normal(seed, f"{purpose}/normal{turn}", count)[waiting]
        u = draw.uniform(seed, f"{purpose}/accept{turn}", count)[waiting]
        base = 1 + c * z
        v = base * base * base
        log_v = draw.ln(np.where(v > 0, v, 1.0))
        accepted = (v > 0) & (draw.ln(u) < 0.5 * z * z + d - d * v + d * log_v)
        values[waiting[accepted]] = d * v[accepted]
        waiting, turn = waiting[~accepted], turn + 1
    return values


def times(gaps: Floats, rate_per_s: float) -> Floats:
    """Arrival times in seconds, on a grid of 1 ns: gaps are rounded to it, and then added as integers."""
    return np.asarray(np.cumsum(np.rint(gaps / rate_per_s * _NS).astype(np.int64)) / _NS)


def piecewise(gaps: Floats, rate_per_s: float, segments: Sequence[Segment]) -> tuple[Floats, Ints]:
    """Arrival times and the segment of each request, when the rate follows the segments around and around."""
    count = len(gaps)
    if segments[0].duration_s is not None:
        return _by_duration(gaps, rate_per_s, segments)
    if segments[0].share is not None:
        edges = np.rint(np.cumsum([part.share or 0.0 for part in segments]) * count)
    else:
        edges = np.cumsum([part.requests or 0 for part in segments])
    place = np.arange(count) if segments[0].share is not None else np.arange(count) % int(edges[-1])
    which = np.minimum(np.searchsorted(edges, place, side="right"), len(segments) - 1)
    factors = np.array([part.factor for part in segments])
    return times(gaps / factors[which], rate_per_s), which


def _by_duration(gaps: Floats, rate_per_s: float, segments: Sequence[Segment]) -> tuple[Floats, Ints]:
    """A process of rate 1 run through the inverse of the expected count: exact for Poisson, whatever the segments."""
    lasts = np.array([part.duration_s or 0.0 for part in segments])
    speeds = rate_per_s * np.array([part.factor for part in segments])
    begins = np.concatenate([[0.0], np.cumsum(lasts)])
    expected = np.concatenate([[0.0], np.cumsum(lasts * speeds)])
    total = np.cumsum(gaps)
    rounds = np.floor(total / expected[-1])
    rest = total - rounds * expected[-1]
    which = np.clip(np.searchsorted(expected, rest, side="right") - 1, 0, len(segments) - 1)
    at = rounds * begins[-1] + begins[which] + (rest - expected[which]) / speeds[which]
    # Rounding may turn two neighbours around by a part of a nanosecond where a round ends.
    return np.maximum.accumulate(np.rint(at * _NS)) / _NS, which
