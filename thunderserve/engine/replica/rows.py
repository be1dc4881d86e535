"""How many rows a CPU multiplies in a step: those of its tokens, and from a certain size on a few that are nobody's.

The matrix library makes machine code for every new number of rows and keeps it for good, half a megabyte for each shape of a
matrix, so that a worker would grow with every new length of a prompt.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from thunderserve.engine.replica.step import Ints

EXACT = 64
"""Up to so many rows, as a step that decodes has, none is added."""


def rows_for(tokens: int, device: torch.device) -> int:
    """A few per cent more than ``tokens`` at most, and few different numbers."""
    if device.type != "cpu" or tokens <= EXACT:
        return tokens
    step = max(1 << (tokens.bit_length() - 6), 4)
    return -(-tokens // step) * step


def widened(x: Ints, device: torch.device) -> Tensor:
    """Numbers of a step, (tokens,), as its ids or positions or the rows to sample from, (1, rows); those added are zero."""
    rows = rows_for(len(x), device)
    return torch.from_numpy(np.pad(x, (0, rows - len(x)))).to(device)[None]
