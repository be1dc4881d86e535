"""Memory of keys and values: for each layer two tensors of (blocks, block tokens, KV heads, dim)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PagedMemory:
    """Blocks of ``block_tokens`` tokens for ``layers`` layers."""

    def __init__(
        self,
        layers: int,
        blocks: int,
        block_tokens: int,
        heads: int,
        dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (blocks, block_tokens, heads, dim)
        self.block_tokens, self.layers = block_tokens, layers
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self._arrays = [(_array(k), _array(v)) for k, v in zip(self._keys, self._values, strict=True)]

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer."""
        return self._keys[layer], self._values[layer]

    def arrays(self, layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The same memory as numpy sees it, on a CPU; bfloat16 as the bits it is."""
        return self._arrays[layer]

    def write(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Put (tokens, heads, dim) where ``slots`` (tokens,) say: block * block tokens + offset."""
        self._keys[layer].flatten(0, 1).index_copy_(0, slots, k)
        self._values[layer].flatten(0, 1).index_copy_(0, slots, v)

    def read(self, layer: int, table: Sequence[int], tokens: int) -> tuple[Tensor, Tensor]:
        """The first ``tokens`` of a sequence, (tokens, heads, dim) each; a copy."""
        blocks = torch.tensor(
            table[: -(-tokens // self.block_tokens)], dtype=torch.long, device=self._keys[layer].device
        )
        k, v = (x[layer].index_select(0, blocks).flatten(0, 1)[:tokens] for x in (self._keys, self._values))
        return k, v


def _array(x: Tensor) -> NDArray[Any]:
    if x.device.type != "cpu":
        return np.empty(0, np.float32)
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()
