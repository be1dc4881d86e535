"""What rank 0 tells the other ranks of its replica, over a pipe each; the end of the pipe is the end of the work."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thunderserve.engine.replica.step import Packed


class Meet(NamedTuple):
    """First: the store of rank 0 is at this port of the loopback; load your share."""

    port: int


class Allocate(NamedTuple):
    """Begin with an empty cache; one that there was is gone."""

    blocks: int
    block_tokens: int


class Put(NamedTuple):
    """Keys and values have come: write your heads of them, (2, tokens, heads, dim) as ``packed_up`` makes it."""

    layer: int
    slots: NDArray[np.int64]
    both: NDArray[np.uint8]


class Read(NamedTuple):
    """Answer with what stands at ``slots`` in your heads of these layers: ``PagedMemory.taken`` as ``packed_up`` makes it."""

    layers: range
    slots: NDArray[np.int64]


Order = Meet | Allocate | Put | Read | Packed
"""``Packed``: compute this step with the others."""


def packed_up(x: Tensor) -> NDArray[np.uint8]:
    """As bytes along the last axis: numpy has no bfloat16."""
    found: NDArray[np.uint8] = x.detach().cpu().contiguous().view(torch.uint8).numpy()
    return found


def unpacked(x: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
    """What ``packed_up`` was given, on the CPU."""
    return torch.from_numpy(x).view(dtype)
