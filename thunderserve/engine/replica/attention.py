"""The models' attention, replaced through transformers' attention interface: packed sequences over paged keys and values.

A model is called with one row of packed tokens and ``paged=Batch(...)``, which every layer hands on to ``paged_attention``. It
writes the new keys and values, lets every sequence attend to its own, and shows the new ones to those who wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.paged_kernel import attend
from thunderserve.engine.replica.step import Packed

NAME = "thunderserve_paged"

Seen = Callable[[int, Tensor, Tensor], None]
"""Called after each layer with its number and the new keys and values, (new tokens, KV heads, dim)."""


class Decode(Protocol):
    """Attention of one new token a sequence: (sequences, heads, dim) of queries to as much of output."""

    def __call__(self, q: Tensor, batch: Batch, layer: int, scale: float, window: int) -> Tensor:
        """The keys and values of the new tokens are in memory already."""


@dataclass(frozen=True)
class Batch:
    """What one forward pass needs to know beside its tokens."""

    step: Packed
    memory: PagedMemory
    slots: Tensor
    decode: Decode
    seen: Seen | None = None


def paged_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float | None = None,
    sliding_window: int | None = None, softcap: float | None = None, paged: Batch | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """See transformers' ``AttentionInterface``: query (1, heads, rows, dim), key and value (1, KV heads, rows, dim).

    Returns (1, rows, heads, dim), zero in rows behind the step's tokens. Raises ValueError for what it cannot do, rather
    than compute something else.
    """
    if paged is None or attention_mask is not None:
        raise ValueError("this attention serves packed batches only: call the model with paged=Batch(...) and no mask")
    if softcap is not None:
        raise ValueError("attention scores with a soft cap are not supported")
    layer, step = int(module.layer_idx), paged.step
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    window = sliding_window or 0
    tokens = len(step.tokens)
    q, k, v = (x[0, :, :tokens].transpose(0, 1) for x in (query, key, value))
    paged.memory.write(layer, paged.slots, k, v)
    if paged.seen is not None:
        paged.seen(layer, k, v)
    decoding = len(step.lengths)
    out = q.new_empty((query.shape[2], *q.shape[1:]))
    out[tokens:] = 0
    if decoding:
        out[:decoding] = paged.decode(q[:decoding], paged, layer, scale, window)
    for span in step.spans:
        new = slice(span.start, span.stop)
        past_k, past_v = paged.memory.read(layer, span.table, span.past)
        out[new] = causal(q[new], torch.cat((past_k, k[new])), torch.cat((past_v, v[new])), scale, window)
    return out[None], None


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int) -> Tensor:
    """Queries of the last tokens of a sequence, (new, heads, dim), over all of its keys and values (tokens, KV heads, dim)."""
    new, total = len(q), len(k)
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    mask = None
    if 0 < window < total or new < total:
        places = torch.arange(total, device=q.device)
        own = places[total - new :, None]
        mask = places <= own
        if window > 0:
            mask &= places > own - window
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None and new > 1, scale=scale, enable_gqa=group > 1
    )
    return out[0].transpose(0, 1)


def gathered(q: Tensor, batch: Batch, layer: int, scale: float, window: int) -> Tensor:
    """``Decode``, slow and obvious, on any device: one sequence after the other."""
    rows = []
    for row, (table, length) in enumerate(zip(batch.step.tables, batch.step.lengths, strict=True)):
        keys, values = batch.memory.read(layer, table.tolist(), int(length))
        rows.append(causal(q[row : row + 1], keys, values, scale, window))
    return torch.cat(rows)


class Compiled:
    """``Decode`` on a CPU: see ``paged_kernel``."""

    def __init__(self) -> None:
        self._wide = np.empty((0, 0), np.float32)

    def __call__(self, q: Tensor, batch: Batch, layer: int, scale: float, window: int) -> Tensor:
        """See ``Decode``."""
        step, (keys, values) = batch.step, batch.memory.arrays(layer)
        heads, longest = q.shape[1], int(step.lengths.max())
        if self._wide.shape[0] < heads or self._wide.shape[1] < longest:
            self._wide = np.empty((heads, longest + 1024), np.float32)
        queries = q.float().contiguous().numpy()
        out = np.empty_like(queries)
        attend(queries, keys, values, step.tables, step.lengths, scale, window, self._wide, out)
        return torch.from_numpy(out).to(q.dtype)


class Flash:
    """``Decode`` on CUDA by the flash-attn package, which reads paged memory itself. Never run by us: no GPU here."""

    def __init__(self) -> None:
        from flash_attn import flash_attn_with_kvcache  # type: ignore[import-not-found]

        self._attend = flash_attn_with_kvcache
        self._step: Packed | None = None
        self._tables = self._lengths = torch.empty(0)

    def __call__(self, q: Tensor, batch: Batch, layer: int, scale: float, window: int) -> Tensor:
        """See ``Decode``."""
        if self._step is not batch.step:
            self._step = batch.step
            self._tables = torch.from_numpy(batch.step.tables).to(q.device)
            self._lengths = torch.from_numpy(batch.step.lengths.astype(np.int32)).to(q.device)
        keys, values = batch.memory.layer(layer)
        out: Tensor = self._attend(
            q[:, None], keys, values, cache_seqlens=self._lengths, block_table=self._tables, softmax_scale=scale,
            causal=True, window_size=(window - 1, 0) if window else (-1, -1),
        )  # fmt: skip
        return out[:, 0]
