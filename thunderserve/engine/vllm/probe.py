"""How vLLM's CPU backend lays a block out: written once with numbered values, and looked up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DIGITS = 128
"""Numbers below this are exact in every format of a cache, also bfloat16."""
Write = Callable[[Tensor, Tensor, Tensor], None]


def measure(write: Write, block_tokens: int, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Where the key and the value of each (token, channel) lie in a block's head, (block_tokens, head_dim) each.

    Args:
        write: puts keys and values of shape (tokens, 1, head_dim) into a cache of shape (1, 1, block_tokens, 2 * head_dim).

    Raises:
        ValueError: what was written cannot be found again one by one.
    """
    count = block_tokens * head_dim
    number = torch.arange(2 * count)
    digits = []
    for digit in (number // DIGITS, number % DIGITS):
        k, v = digit.to(dtype).reshape(2, block_tokens, 1, head_dim)
        cache = torch.zeros(1, 1, block_tokens, 2 * head_dim, dtype=dtype)
        write(k.contiguous(), v.contiguous(), cache)
        digits.append(cache.flatten().to(torch.int64))
    seen = digits[0] * DIGITS + digits[1]
    if not torch.equal(seen.sort().values, number):
        raise ValueError("the cache does not hold every key and value once, as they are: its layout is not understood")
    k_places, v_places = torch.argsort(seen).reshape(2, block_tokens, head_dim)
    return k_places, v_places


def cpu_write(block_tokens: int, head_dim: int, dtype: torch.dtype) -> Write:
    """By vLLM's own kernel, as its CPU backend calls it."""
    from vllm import _custom_ops as ops
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    isa = _get_attn_isa(dtype, block_tokens, head_dim)

    def write(k: Tensor, v: Tensor, cache: Tensor) -> None:
        k_cache, v_cache = cache.view(1, 1, 2 * block_tokens, head_dim).chunk(2, dim=2)
        slots = torch.arange(block_tokens)
        ops.cpu_attn_reshape_and_cache(k, v, k_cache, v_cache, slots, isa)

    return write
