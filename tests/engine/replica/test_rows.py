"""Rows that are nobody's: few numbers of them, and nothing changes for anybody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from thunderserve.engine.checkpoint.tiny import Architecture
from thunderserve.engine.messages import Role, Sampling, Submit
from thunderserve.engine.replica.core import Replica
from thunderserve.engine.replica.model import Model
from thunderserve.engine.replica.rows import EXACT, FEWEST_PACKED, Rows

PLAIN, PACKED, CUDA = Rows(torch.device("cpu")), Rows(torch.device("cpu"), 20), Rows(torch.device("cuda"), 20)


def test_rows_are_of_few_numbers_and_little_more_than_tokens() -> None:
    numbers = [PLAIN.count(tokens) for tokens in range(1, 4097)]
    assert numbers[:EXACT] == list(range(1, EXACT + 1))
    assert all(0 <= more - tokens <= tokens / 16 for tokens, more in enumerate(numbers, start=1))
    assert numbers == sorted(numbers)
    assert len(set(numbers)) < 250


def test_packed_layers_never_see_fewer_than_four() -> None:
    assert [PACKED.count(tokens) for tokens in range(7)] == [0, 4, 4, 4, 4, 5, 6]
    assert [Rows(torch.device("cpu"), 1).count(tokens) for tokens in range(4)] == [0, 1, 2, 3]  # only the head


def test_numbers_are_all_that_steps_can_have() -> None:
    assert PACKED.numbers(70) == [*range(4, 65), 68, 72]
    assert len(PLAIN.numbers(1024)) == 64 + 16 + 32 + 32 + 32
    assert PACKED.numbers(0) == []


def test_a_gpu_gets_what_there_is() -> None:
    assert [CUDA.count(tokens) for tokens in (1, 101)] == [1, 101]


def test_added_rows_are_zero() -> None:
    wide = PLAIN.widened(np.arange(1, 102))
    assert wide.shape == (1, 104)
    assert wide[0].tolist() == [*range(1, 102), 0, 0, 0]
    activations = torch.ones(2, 5)
    assert PACKED.padded(activations).tolist() == [[1.0] * 5] * 2 + [[0.0] * 5] * 2
    assert PLAIN.padded(activations).shape == (2, 5)


def computed(model: Model) -> tuple[list[list[int]], torch.Tensor, set[int]]:
    """Tokens of three prompts in uneven chunks, all keys and values that were written, and the tokens that steps had."""
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
    kept = [torch.stack(memory.layer(layer)) for layer in range(model.layers)]
    return said, torch.stack(kept), lengths


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_nobody_sees_them(tiny_model: Any, architecture: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(str(tiny_model(architecture)))
    monkeypatch.setattr(model, "_rows", PACKED)
    said, kept, tokens = computed(model)
    assert any(EXACT < one < PACKED.count(one) for one in tokens)  # else nothing is tested
    assert min(tokens) < FEWEST_PACKED
    monkeypatch.setattr(Rows, "count", lambda _, tokens: tokens)
    plain, kept_plainly, _ = computed(model)
    assert said == plain
    torch.testing.assert_close(kept, kept_plainly, rtol=1e-4, atol=1e-5)  # every slot, also those that nobody owns
