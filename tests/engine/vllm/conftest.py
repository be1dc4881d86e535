"""Sides that are closed when a test ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from sides import CPU, Make, Side

from thunderserve.engine.transfer.warm import warm_up
from thunderserve.engine.vllm.layout import beside
from thunderserve.engine.vllm.settings import Settings
from thunderserve.engine.vllm.shard import Kind, Shard
from thunderserve.engine.vllm.sink import Sink
from thunderserve.engine.vllm.source import Source
from thunderserve.kv.wire.contract import Dtype


@pytest.fixture(scope="session", autouse=True)
def _machine_code() -> None:
    """As the connector does at its start: no load waits for a compiler."""
    warm_up(["raw", "int4"], Dtype.FLOAT32)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes ranks, and closes them."""
    made: list[Side] = []

    def one(kind: Kind, shard: Shard, *, blocks: int = 64, block_tokens: int = 16, **settings: object) -> Side:
        (first, last), (low, high) = shard
        dtype = getattr(torch, kind.dtype)
        caches = [
            torch.zeros(blocks, high - low, block_tokens, 2 * kind.head_dim, dtype=dtype) for _ in range(first, last)
        ]
        layouts = [beside(cache, kind.head_dim) for cache in caches]
        given = Settings(**{"timeout_s": 3.0, **settings})  # type: ignore[arg-type]
        side = Side(
            shard, caches, layouts, Source(given, kind, shard, layouts, CPU), Sink(given, kind, shard, layouts, CPU)
        )
        made.append(side)
        return side

    yield one
    for side in made:
        side.source.close()
        side.sink.close()
