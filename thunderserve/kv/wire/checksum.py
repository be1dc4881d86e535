"""XXH64 (Collet, xxHash specification 0.1.1): a public 64-bit checksum at the speed of memory, where CRC-32 would cost
as much as the codec."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thunderserve.serving.compile import kernel

PRIMES = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)
P1, P2, P3, P4, P5 = (np.uint64(prime) for prime in PRIMES)
MASK = (1 << 64) - 1


@kernel
def _rotate(x: np.uint64, by: int) -> np.uint64:
    return (x << np.uint64(by)) | (x >> np.uint64(64 - by))


@kernel
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(lane + word * P2, 31) * P1


@kernel
def _merge(total: np.uint64, lane: np.uint64) -> np.uint64:
    return (total ^ _round(np.uint64(0), lane)) * P1 + P4


@kernel
def _xxh64(words: NDArray[np.uint64], rest: NDArray[np.uint8]) -> np.uint64:
    """Of little-endian ``words`` and the up to seven bytes behind them; seed 0."""
    stripes = words.shape[0] // 4
    total = P5
    if stripes > 0:
        a, b, c, d = P1 + P2, P2, np.uint64(0), np.uint64(0) - P1
        for i in range(stripes):
            a, b = _round(a, words[4 * i]), _round(b, words[4 * i + 1])
            c, d = _round(c, words[4 * i + 2]), _round(d, words[4 * i + 3])
        total = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        total = _merge(_merge(_merge(_merge(total, a), b), c), d)
    total += np.uint64(8 * words.shape[0] + rest.shape[0])
    for i in range(4 * stripes, words.shape[0]):
        total = _rotate(total ^ _round(np.uint64(0), words[i]), 27) * P1 + P4
    first = 0
    if rest.shape[0] >= 4:
        word = np.uint64(rest[0]) | np.uint64(rest[1]) << np.uint64(8) | np.uint64(rest[2]) << np.uint64(16)
        word |= np.uint64(rest[3]) << np.uint64(24)
        total = _rotate(total ^ (word * P1), 23) * P2 + P3
        first = 4
    for i in range(first, rest.shape[0]):
        total = _rotate(total ^ (np.uint64(rest[i]) * P5), 11) * P1
    total = (total ^ (total >> np.uint64(33))) * P2
    total = (total ^ (total >> np.uint64(29))) * P3
    return total ^ (total >> np.uint64(32))


def xxh64(data: Any) -> int:
    """Checksum of ``data`` (any object with bytes), seed 0."""
    view = np.frombuffer(data, np.uint8)
    whole = view.size // 8 * 8
    return int(_xxh64(view[:whole].view("<u8"), view[whole:]))
