"""Compiled loops between values and byte planes: all first bytes, then all second bytes, so that an entropy coder sees
like with like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thunderserve.serving.compile import kernel

Words = NDArray[np.uint16] | NDArray[np.uint32]
Planes = NDArray[np.uint8]


@kernel
def split(words: Words, width: int, planes: Planes) -> None:
    """Plane p of (width, n): byte p, from the top, of each word turned left by one bit: the exponent comes first, whole."""
    for p in range(width):
        shift = np.uint32(8 * (width - 1 - p))
        for i in range(words.shape[0]):
            word = np.uint32(words[i])
            turned = (word << np.uint32(1)) | (word >> np.uint32(8 * width - 1))
            planes[p, i] = np.uint8((turned >> shift) & np.uint32(255))


@kernel
def join(planes: Planes, width: int, words: Words) -> None:
    """The inverse of ``split``."""
    top = np.uint32(8 * width - 1)
    for i in range(words.shape[0]):
        turned = np.uint32(0)
        for p in range(width):
            turned = (turned << np.uint32(8)) | np.uint32(planes[p, i])
        words[i] = (turned >> np.uint32(1)) | (turned << top)
