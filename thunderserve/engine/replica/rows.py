"""How many rows a CPU multiplies in a step: those of its tokens, and a few that are nobody's where that is better.

The matrix library makes machine code for every new number of rows and keeps it for good, half a megabyte for each shape of a
matrix, so that a worker would grow with every new length of a prompt. And with packed weights it is faster with four rows than
with one, two or three (docs/engine.md, Speed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from thunderserve.engine.replica.step import Ints

EXACT = 64
"""Up to so many rows, as a step that decodes has, none is added but to reach ``FEWEST_PACKED``."""
FEWEST_PACKED = 4


@dataclass(frozen=True)
class Rows:
    """Of one model.

    Args:
        device: of its weights; only a CPU gets more rows than there are tokens.
        packed: how many of its layers ``pack`` has replaced; where it was only the head, or nothing, few rows stay few.
    """

    device: torch.device
    packed: int = 0

    def count(self, tokens: int) -> int:
        """A few per cent more than ``tokens`` at most, four at least where weights are packed, and few different numbers."""
        if self.device.type != "cpu" or tokens == 0:
            return tokens
        if tokens <= EXACT:
            return max(tokens, FEWEST_PACKED) if self.packed > 1 else tokens
        step = max(1 << (tokens.bit_length() - 6), 4)
        return -(-tokens // step) * step

    def numbers(self, most: int) -> list[int]:
        """All numbers of rows that steps of up to ``most`` tokens can have, ascending."""
        return sorted({self.count(tokens) for tokens in range(1, most + 1)})

    def widened(self, x: Ints) -> Tensor:
        """Numbers of a step, (tokens,), as its ids or positions or the rows to sample from, (1, rows); those added are zero."""
        return torch.from_numpy(np.pad(x, (0, self.count(len(x)) - len(x)))).to(self.device)[None]

    def padded(self, x: Tensor) -> Tensor:
        """Activations of a step's tokens, (tokens, hidden), with the added rows, (rows, hidden)."""
        return nn.functional.pad(x, (0, 0, 0, self.count(len(x)) - len(x)))
