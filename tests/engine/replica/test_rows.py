"""Rows that are nobody's: few numbers of them, and nothing changes for anybody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from thunderserve.engine.checkpoint.tiny import Architecture
from thunderserve.engine.messages import Role, Sampling, Submit
from thunderserve.engine.replica import rows
from thunderserve.engine.replica.core import Replica
from thunderserve.engine.replica.model import Model
from thunderserve.engine.replica.rows import EXACT, rows_for, widened

CPU = torch.device("cpu")


def test_rows_are_of_few_numbers_and_little_more_than_tokens() -> None:
    numbers = [rows_for(tokens, CPU) for tokens in range(1, 4097)]
    assert numbers[:EXACT] == list(range(1, EXACT + 1))
    assert all(0 <= more - tokens <= tokens / 16 for tokens, more in enumerate(numbers, start=1))
    assert numbers == sorted(numbers)
    assert len(set(numbers)) < 250


def test_a_gpu_gets_what_there_is() -> None:
    assert rows_for(101, torch.device("cuda")) == 101


def test_added_rows_are_zero() -> None:
    wide = widened(np.arange(1, 102), CPU)
    assert wide.shape == (1, 104)
    assert wide[0].tolist() == [*range(1, 102), 0, 0, 0]


def computed(model: Model) -> tuple[list[list[int]], torch.Tensor]:
    """Tokens of three prompts longer than ``EXACT`` in uneven chunks, and all keys and values that were written."""
    replica = Replica(Role("both", "chunked", 8, 101), blocks=64, block_tokens=4, max_context=512, reuse=False)
    memory = model.memory(64, 4)
    rng = np.random.default_rng(3)
    said: list[list[int]] = []
    for number, length in enumerate((70, 45, 99)):
        replica.submit(Submit(number, tuple(rng.integers(1, 250, length).tolist()), Sampling(5)))
        said.append([])
    lengths = set()
    while len(replica):
        step = replica.schedule(0.0)
        assert step is not None
        lengths.add(len(step.tokens))
        for token in replica.complete(model.execute(step, memory), 0.0).tokens:
            said[token.id].append(token.token)
        replica.check()
    assert any(rows_for(length, CPU) > length for length in lengths)  # else nothing is tested
    kept = [torch.stack(memory.layer(layer)) for layer in range(model.layers)]
    return said, torch.stack(kept)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_nobody_sees_them(tiny_model: Any, architecture: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(str(tiny_model(architecture)))
    said, kept = computed(model)
    monkeypatch.setattr(rows, "rows_for", lambda tokens, _: tokens)
    plain, kept_plainly = computed(model)
    assert said == plain
    torch.testing.assert_close(kept, kept_plainly, rtol=1e-4, atol=1e-5)  # every slot, also those that nobody owns
