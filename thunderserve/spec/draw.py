"""Random numbers that are the same on every machine.

The bits come from Philox (Salmon et al. 2011), whose raw stream numpy guarantees. Everything after them uses only
operations that IEEE 754 rounds in one way (+ - * / sqrt) and exact scalings: the logarithm, exponential and inverse normal
below are our own, because those of the C libraries differ in their last bits. The i-th value of a stream does not
depend on how many are drawn, so a longer trace begins with the shorter one.
"""

from __future__ import annotations

import hashlib
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two parts; the first has so few bits that its product with an exponent is exact (fdlibm's split)."""


def uniform(seed: int, purpose: str, count: int, *, skip: int = 0) -> Floats:
    """Values ``skip`` to ``skip + count`` of the stream named by seed and purpose: uniform in the open interval (0, 1).

    Streams of different purposes are independent, so that one seed can feed lengths and arrivals apart.
    """
    key = hashlib.sha256(f"thunderserve:{purpose}:{seed}".encode()).digest()[:16]
    source = np.random.Philox(key=int.from_bytes(key, "little"))
    # Philox makes four values a block, and advance() counts blocks.
    source.advance(skip // 4)
    raw = source.random_raw(count + skip % 4)[skip % 4 :]
    return _open_interval(raw)


def hashed_uniform(labels: list[str], count: int) -> Floats:
    """``count`` (at most 4) uniform values for each label, of shape (labels, count): SHA-256 as a random function."""
    digests = b"".join(hashlib.sha256(f"thunderserve:{label}".encode()).digest() for label in labels)
    raw = np.frombuffer(digests, dtype="<u8").reshape(len(labels), 4)[:, :count]
    return _open_interval(raw)


def normal(seed: int, purpose: str, count: int, *, skip: int = 0) -> Floats:
    """Standard normal values, one for each uniform value of the same stream."""
    return inverse_normal(uniform(seed, purpose, count, skip=skip))


def _open_interval(raw: NDArray[np.uint64]) -> Floats:
    """53 bits of each integer as a value in (0, 1); neither end is ever met."""
    return np.asarray(((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def ln(x: Floats) -> Floats:
    """Natural logarithm of positive values, within 2 ulp."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    # 2 artanh(s) = 2 (s + s^3/3 + ...); |s| <= 0.172, so that the term left out is below 1e-17 of the first.
    tail = _polynomial([1.0 / k for k in range(23, 1, -2)], square) * square
    return np.asarray(exponent * _LN2_HIGH + (2.0 * (s + s * tail) + exponent * _LN2_LOW))


def exp(x: Floats) -> Floats:
    """Exponential within 2 ulp; 0 below -745, infinity above 709."""
    clipped = np.clip(x, -800.0, 800.0)
    turns = np.rint(clipped * 1.4426950408889634)
    rest = (clipped - turns * _LN2_HIGH) - turns * _LN2_LOW
    factorials = np.cumprod([1.0, *range(1, 15)])
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(_polynomial(list(1.0 / factorials[::-1]), rest), turns.astype(np.int32)))


_CENTRE = (
    [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
     1971.5909503065514427, 133.14166789178437745, 3.387132872796366608],
    [5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
     687.1870074920579083, 42.313330701600911252, 1.0],
)  # fmt: skip
_MIDDLE = (
    [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
    [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0],
)  # fmt: skip
_FAR = (
    [2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772],
    [2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0],
)  # fmt: skip


def inverse_normal(p: Floats) -> Floats:
    """The standard normal quantile of 0 < p < 1 (Wichura 1988, algorithm AS 241, PPND16: about 1e-16)."""
    q = p - 0.5
    central = 0.180625 - q * q
    near = q * (_polynomial(_CENTRE[0], central) / _polynomial(_CENTRE[1], central))
    r = np.sqrt(-ln(np.minimum(p, 1.0 - p)))
    middle = _polynomial(_MIDDLE[0], r - 1.6) / _polynomial(_MIDDLE[1], r - 1.6)
    far = _polynomial(_FAR[0], r - 5.0) / _polynomial(_FAR[1], r - 5.0)
    outer = np.where(r <= 5.0, middle, far)
    return np.asarray(np.where(np.abs(q) <= 0.425, near, np.where(q < 0, -outer, outer)))


def _polynomial(coefficients: list[float], x: Floats) -> Floats:
    """Horner's rule, highest power first."""
    return reduce(lambda total, term: total * x + term, coefficients[1:], np.full_like(x, coefficients[0]))
