"""What several seeds say together. The spread between seeds holds all that one run cannot know of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance

from harness.statistics.beta import student_quantile
from harness.statistics.binomial import share_interval
from harness.statistics.value import CONFIDENCE, Value


def positive(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Value:
    """Mean of a quantity that cannot be negative, with Student's interval on the logarithm (delta method).

    The interval is mean * exp(-+ t * se / mean): always positive, always around the mean. One value has no interval.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Value(mean)
    if mean <= 0:
        return Value(mean, (mean, mean))
    error = math.sqrt(variance(values) / len(values))
    factor = math.exp(min(student_quantile(confidence, len(values) - 1) * error / mean, 700.0))
    return Value(mean, (mean / factor, mean * factor))


def share(shares: Sequence[float], trials: int, *, confidence: float = CONFIDENCE) -> Value:
    """Mean share over seeds of ``trials`` requests each, with an interval inside [0, 1] that is honest at 0 and at 1.

    Korn and Graubard's: Clopper-Pearson with the effective sample, whose design effect is the spread between seeds over
    that of independent requests (at least 1), and which is cut by (z / t)^2 for the few seeds it was seen in.
    """
    mean = fmean(shares)
    count = len(shares)
    total = count * trials
    if count < 2:
        return Value(mean, share_interval(mean * total, total, confidence=confidence))
    binomial = mean * (1 - mean) / trials
    effect = max(1.0, variance(shares) / binomial) if binomial > 0 else 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    effect *= (student_quantile(confidence, count - 1) / z) ** 2
    return Value(mean, share_interval(mean * total, total, confidence=confidence, effect=effect))


def signed(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Value:
    """Mean of a quantity of either sign, with Student's interval; one value has none."""
    mean = fmean(values)
    if len(values) < 2:
        return Value(mean)
    reach = student_quantile(confidence, len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Value(mean, (mean - reach, mean + reach))
