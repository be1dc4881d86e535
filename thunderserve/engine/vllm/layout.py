"""Where vLLM's attention backends keep a token's keys and values, and how to get at them in one form: (tokens, heads, dim).

vLLM hands a connector one tensor a layer, logically (blocks, heads, tokens of a block, content). On CUDA the content of a token
is its key and then its value, whatever the physical order of the axes (``KVCacheLayout``): plain slices. The CPU backend reads
the inside of a block's head as *all keys, then all values*, and lays the keys out as its instruction set wants them: transposed
for AVX2 and AVX-512, in tiles for AMX. How, is not asked but measured (``probe.py``): a place for every (token, channel).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    """The keys and values of one layer."""

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""

    @property
    def heads(self) -> int:
        """KV heads of this rank."""

    def read(self, blocks: Sequence[int], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Tokens ``start`` to ``stop`` of a sequence in ``blocks``: copies of shape (tokens, heads, dim)."""

    def write(self, blocks: Sequence[int], start: int, k: Tensor, v: Tensor, first_head: int = 0) -> None:
        """The inverse, for the heads from ``first_head`` on."""


class Strided:
    """Keys and values that strides can describe.

    Args:
        k, v: views of the cache, (blocks, tokens of a block, heads, dim).
    """

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self._k, self._v = k, v
        self.block_tokens, self.heads = int(k.shape[1]), int(k.shape[2])

    def read(self, blocks: Sequence[int], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See ``Layout``."""
        block, place = self._places(blocks, start, stop)
        return self._k[block, place], self._v[block, place]

    def write(self, blocks: Sequence[int], start: int, k: Tensor, v: Tensor, first_head: int = 0) -> None:
        """See ``Layout``."""
        block, place = self._places(blocks, start, start + len(k))
        last_head = first_head + k.shape[1]
        for cache, values in ((self._k, k), (self._v, v)):
            cache[block, place, first_head:last_head] = values.to(cache.device, cache.dtype)

    def _places(self, blocks: Sequence[int], start: int, stop: int) -> tuple[Tensor, Tensor]:
        return places(blocks, start, stop, self.block_tokens, self._k.device)


class Tiled:
    """Keys and values at places that were measured.

    Args:
        inside: the cache as (blocks, heads, values of a block's head).
        k_places, v_places: for each (token of a block, channel) its place inside, (tokens of a block, dim).
    """

    def __init__(self, inside: Tensor, k_places: Tensor, v_places: Tensor) -> None:
        self._inside, self._k_places, self._v_places = inside, k_places, v_places
        self.block_tokens, self.heads = int(k_places.shape[0]), int(inside.shape[1])

    def read(self, blocks: Sequence[int], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See ``Layout``."""
        block, place = places(blocks, start, stop, self.block_tokens, self._inside.device)
        head = torch.arange(self.heads, device=block.device)[None, :, None]
        at = block[:, None, None], head
        return self._inside[*at, self._k_places[place][:, None]], self._inside[*at, self._v_places[place][:, None]]

    def write(self, blocks: Sequence[int], start: int, k: Tensor, v: Tensor, first_head: int = 0) -> None:
        """See ``Layout``."""
        block, place = places(blocks, start, start + len(k), self.block_tokens, self._inside.device)
        head = torch.arange(first_head, first_head + k.shape[1], device=block.device)[None, :, None]
        for values, known in ((k, self._k_places), (v, self._v_places)):
            self._inside[block[:, None, None], head, known[place][:, None]] = values.to(
                block.device, self._inside.dtype
            )


def places(
    blocks: Sequence[int], start: int, stop: int, block_tokens: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The block, and the place in it, of each token.

    Raises:
        ValueError: the blocks do not reach so far.
    """
    if not 0 <= start <= stop <= len(blocks) * block_tokens:
        raise ValueError(f"tokens {start} to {stop} do not lie in {len(blocks)} blocks of {block_tokens}")
    token = torch.arange(start, stop)
    found = torch.tensor(list(blocks), dtype=torch.int64)[token // block_tokens]
    return found.to(device), (token % block_tokens).to(device)


def beside(cache: Tensor, head_dim: int) -> Layout:
    """Of a cache in which a token's key and value lie side by side (CUDA: FlashAttention, FlashInfer, Triton).

    Args:
        cache: (blocks, heads, tokens of a block, 2 * head_dim), with any strides.

    Raises:
        ValueError: another shape; such a model or backend is not supported.
    """
    if cache.ndim != 4 or cache.shape[3] != 2 * head_dim:
        raise ValueError(
            f"a layer's cache has shape {tuple(cache.shape)}; this connector takes (blocks, heads, tokens, {2 * head_dim}): "
            f"key and value of {head_dim} channels side by side"
        )
    rows = cache.permute(0, 2, 1, 3)
    return Strided(rows[..., :head_dim], rows[..., head_dim:])


def measured(cache: Tensor, k_places: Tensor, v_places: Tensor) -> Layout:
    """Of a cache whose blocks are laid out as a probe found; by strides where they do.

    Args:
        cache: (blocks, heads, tokens of a block, 2 * dim), each block's head contiguous.
        k_places, v_places: (tokens of a block, dim): where the value of a token and channel lies in a block's head.

    Raises:
        ValueError: a block's head is not contiguous.
    """
    blocks, heads, tokens, content = cache.shape
    if cache.stride()[2:] != (content, 1):
        raise ValueError(f"the inside of a block is not contiguous: strides {cache.stride()}")
    if (k := _steps(k_places)) and (v := _steps(v_places)):
        dim = k_places.shape[1]
        base, outer = cache.storage_offset(), cache.stride()
        shape = (blocks, tokens, heads, dim)
        views = (
            torch.as_strided(cache, shape, (outer[0], by_token, outer[1], by_channel), base + origin)
            for origin, by_token, by_channel in (k, v)
        )
        return Strided(*views)
    return Tiled(cache.view(blocks, heads, tokens * content), k_places, v_places)


def _steps(found: Tensor) -> tuple[int, int, int] | None:
    """The first place, and the steps from token to token and from channel to channel, if these are constant."""
    origin = int(found[0, 0])
    by_token = int(found[1, 0]) - origin if len(found) > 1 else 0
    by_channel = int(found[0, 1]) - origin if found.shape[1] > 1 else 0
    token, channel = torch.arange(len(found))[:, None], torch.arange(found.shape[1])[None]
    return (
        (origin, by_token, by_channel) if torch.equal(found, origin + token * by_token + channel * by_channel) else None
    )
