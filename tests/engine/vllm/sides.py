"""Two sides of a transfer in one process, over caches that are plain tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thunderserve.engine.vllm.layout import Layout
from thunderserve.engine.vllm.shard import Kind, Shard
from thunderserve.engine.vllm.sink import Results, Sink
from thunderserve.engine.vllm.source import Source

CPU = torch.device("cpu")
SOON_S = 10.0


@dataclass
class Side:
    """One rank."""

    shard: Shard
    caches: list[Tensor]
    layouts: list[Layout]
    source: Source
    sink: Sink

    def put(self, blocks: Sequence[int], keys: Tensor, values: Tensor) -> None:
        """Keys and values (layers, tokens, heads, dim) of the whole model into the blocks of this rank."""
        (first, _), (low, high) = self.shard
        for number, layout in enumerate(self.layouts):
            layout.write(blocks, 0, keys[first + number, :, low:high], values[first + number, :, low:high])

    def get(self, blocks: Sequence[int], tokens: int) -> tuple[Tensor, Tensor]:
        """What this rank holds: (its layers, tokens, its heads, dim)."""
        found = [layout.read(blocks, 0, tokens) for layout in self.layouts]
        return torch.stack([k for k, _ in found]), torch.stack([v for _, v in found])

    def mine(self, whole: Tensor) -> Tensor:
        """The part of (layers, tokens, heads, dim) that is this rank's."""
        (first, last), (low, high) = self.shard
        return whole[first:last, :, low:high]


Make = Callable[..., Side]


def finished(side: Side, *, pump: Sequence[Side] = ()) -> Results:
    """What the next load of ``side`` came to; the sources of ``pump`` are polled meanwhile."""
    until_s = time.monotonic() + SOON_S
    while time.monotonic() < until_s:
        for other in pump:
            other.source.poll()
        results = side.sink.poll(0.01)
        if results.finished:
            return results
    raise AssertionError("the load has not ended")


def freed(side: Side, count: int = 1) -> set[str]:
    """Requests that a source has given back, once there are ``count``."""
    found: set[str] = set()
    until_s = time.monotonic() + SOON_S
    while len(found) < count and time.monotonic() < until_s:
        found |= side.source.poll(0.01)
    return found


def emptied(side: Side) -> bool:
    """Whether a source gives back all that it holds."""
    until_s = time.monotonic() + SOON_S
    while side.source.live and time.monotonic() < until_s:
        side.source.poll(0.01)
    return side.source.live == 0


def content(kind: Kind, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random keys and values of a whole model: (layers, tokens, heads, dim)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (kind.layers, tokens, kind.heads, kind.head_dim)
    dtype = getattr(torch, kind.dtype)
    return torch.randn(shape, generator=generator).to(dtype), torch.randn(shape, generator=generator).to(dtype)
