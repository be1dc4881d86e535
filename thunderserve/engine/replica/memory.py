"""Memory of keys and values: for each layer two tensors of (blocks, block tokens, KV heads, dim)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class KvMemory(Protocol):
    """Where a replica keeps keys and values, on one device or on several: what transfers need to know of it."""

    block_tokens: int

    def put(self, layer: int, slots: NDArray[np.int64], k: Tensor, v: Tensor) -> None:
        """Put (tokens, KV heads, dim) of any device and dtype where ``slots`` (tokens,) say."""

    def read(self, layer: int, table: Sequence[int], tokens: int) -> tuple[Tensor, Tensor]:
        """The first ``tokens`` of a sequence, (tokens, KV heads, dim) each; a copy."""


class PagedMemory:
    """Blocks of ``block_tokens`` tokens for ``layers``, on one device; layers have the numbers that the model gives them.

    All of it is written once, so that a machine with too little memory says so at the start and not under load.
    """

    def __init__(
        self,
        layers: range,
        blocks: int,
        block_tokens: int,
        heads: int,
        dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (blocks, block_tokens, heads, dim)
        self.block_tokens = block_tokens
        self._keys = {layer: torch.empty(shape, dtype=dtype, device=device).zero_() for layer in layers}
        self._values = {layer: torch.empty(shape, dtype=dtype, device=device).zero_() for layer in layers}
        self._arrays = {layer: (_array(self._keys[layer]), _array(self._values[layer])) for layer in layers}

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

    def put(self, layer: int, slots: NDArray[np.int64], k: Tensor, v: Tensor) -> None:
        """See ``KvMemory``."""
        keys = self._keys[layer]
        places = torch.from_numpy(slots).to(keys.device)
        self.write(layer, places, k.to(keys.device, keys.dtype), v.to(keys.device, keys.dtype))

    def taken(self, layers: range, slots: NDArray[np.int64]) -> Tensor:
        """What stands at ``slots`` (tokens,): (layers, 2, tokens, heads, dim), keys before values; a copy."""
        places = torch.from_numpy(slots).to(self._keys[layers[0]].device)
        both = (x[layer].flatten(0, 1).index_select(0, places) for layer in layers for x in (self._keys, self._values))
        found = torch.stack(list(both))
        return found.view(len(layers), 2, *found.shape[1:])

    def read(self, layer: int, table: Sequence[int], tokens: int) -> tuple[Tensor, Tensor]:
        """See ``KvMemory``."""
        blocks = torch.tensor(
            table[: -(-tokens // self.block_tokens)], dtype=torch.long, device=self._keys[layer].device
        )
        k, v = (x[layer].index_select(0, blocks).flatten(0, 1)[:tokens] for x in (self._keys, self._values))
        return k, v


def _array(x: Tensor) -> NDArray[Any]:
    if x.device.type != "cpu":
        return np.empty(0, np.float32)
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()
