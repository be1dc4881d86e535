"""The regularised incomplete beta function, its inverse, and Student's t: all that exact intervals need of scipy."""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300
_EPSILON = 1e-15


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) for a, b > 0: the chance that a Beta(a, b) variable is at most ``x``."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front) if log_front > -745 else 0.0
    if x < (a + 1) / (a + b + 2):
        return min(1.0, front * _continued_fraction(a, b, x) / a)
    return max(0.0, 1.0 - front * _continued_fraction(b, a, 1 - x) / b)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction DLMF 8.17.22; O(sqrt(max(a, b))) terms where it is called."""
    c = 1.0
    d = 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    result = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 + term * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + term / c
            c = c if abs(c) > _TINY else _TINY
            change = c * d
            result *= change
        if abs(change - 1) < _EPSILON:
            return result
    raise ArithmeticError(f"the incomplete beta function did not converge at a={a}, b={b}, x={x}")


def beta_quantile(a: float, b: float, probability: float) -> float:
    """The x with I_x(a, b) = ``probability``, by Newton's method kept inside a shrinking bracket."""
    low, high = 0.0, 1.0
    x = a / (a + b)
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        error = incomplete_beta(a, b, x) - probability
        low, high = (low, x) if error > 0 else (x, high)
        if error == 0 or high - low < 1e-15:
            break
        log_density = log_scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)
        step = x - error * math.exp(-log_density) if log_density > -700 else -1.0
        following = step if low < step < high else (low + high) / 2
        if abs(following - x) < 1e-14 * max(x, 1e-14):
            return following
        x = following
    return x


@lru_cache(maxsize=256)
def student_quantile(confidence: float, degrees: float) -> float:
    """The t with P(|T| <= t) = ``confidence`` for ``degrees`` of freedom > 0; two-sided, so 12.706 at 0.95 and 1."""
    # P(|T| > t) = I_u(degrees / 2, 1 / 2) with u = degrees / (degrees + t^2).
    u = beta_quantile(degrees / 2, 0.5, 1 - confidence)
    return math.sqrt(degrees * (1 - u) / u)
