"""Several ranks say, together, what transformers' own ``generate`` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from thunderserve.engine.checkpoint.tiny import Architecture, tiny
from thunderserve.engine.messages import Role, Sampling, Submit
from thunderserve.engine.options import Rank, WorkerOptions
from thunderserve.engine.ranks.process import start_ranks
from thunderserve.engine.ranks.team import Team
from thunderserve.engine.replica.core import Replica
from thunderserve.engine.replica.model import Model

CHUNKED = Role("both", "chunked", 8, 24)
TP = (Rank(0, 3, 0, 2), Rank(0, 3, 1, 2))
PP = (Rank(0, 1), Rank(1, 3))
BOTH = (Rank(0, 2, 0, 2), Rank(0, 2, 1, 2), Rank(2, 3))
"""Two ranks share the first two layers, one has the last."""


@contextmanager
def team(folder: Path, ranks: tuple[Rank, ...]) -> Iterator[Team]:
    options = WorkerOptions(0, ("nobody", 1), str(folder), CHUNKED, ranks=ranks)
    lost: list[str] = []
    one = Team(options, start_ranks(options, lost.append))
    try:
        yield one
    finally:
        one.stop()
    assert not lost


def requests() -> list[Submit]:
    """Prompts of 10 to 39 tokens, the first nine common; the last is drawn by chance."""
    rng = np.random.default_rng(0)
    common = rng.integers(0, 250, 9).tolist()
    prompts = [(*common, *rng.integers(0, 250, int(rng.integers(1, 30))).tolist()) for _ in range(16)]
    greedy = [Submit(i, prompt, Sampling(int(rng.integers(2, 25)))) for i, prompt in enumerate(prompts)]
    return [*greedy, Submit(16, prompts[0], Sampling(20, temperature=0.9, top_p=0.9, seed=7))]


def served(model: Any, wanted: list[Submit]) -> dict[int, list[int]]:
    """The tokens of all requests, through so few blocks that some are preempted."""
    replica = Replica(CHUNKED, blocks=40, block_tokens=4, max_context=2048)
    memory = model.memory(40, 4)
    said: dict[int, list[int]] = {submit.id: [] for submit in wanted}
    for submit in wanted:
        replica.submit(submit)
    while (step := replica.schedule(0.0)) is not None:
        for token in replica.complete(model.execute(step, memory), 0.0).tokens:
            said[token.id].append(token.token)
        replica.check()
    assert replica.preemptions > 0
    assert replica.reused_tokens > 0
    return said


def generated(reference: Any, submit: Submit) -> list[int]:
    prompt = torch.tensor([submit.prompt])
    found = reference.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=submit.sampling.max_tokens, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return [int(token) for token in found[0, len(submit.prompt) :]]


@pytest.mark.parametrize(
    ("architecture", "ranks", "changes"),
    [
        ("qwen2", TP, {"tie_word_embeddings": True, "vocab_size": 265}),  # the last rank has a row of the head more
        ("llama", PP, {"tie_word_embeddings": True, "num_key_value_heads": 1}),
        ("gemma3", BOTH, {}),
    ],
    ids=["qwen2-tp", "llama-pp", "gemma3-tp-pp"],
)
def test_ranks_say_together_what_generate_says(
    tmp_path: Path, architecture: Architecture, ranks: tuple[Rank, ...], changes: dict[str, Any]
) -> None:
    folder = tiny(tmp_path, architecture, **changes)
    wanted = requests()
    with team(folder, ranks) as one:
        said = served(one, wanted)
        seen: dict[int, tuple[Any, Any]] = {}
        keys = first_step(one, lambda layer, k, v: seen.update({layer: (k, v)}))
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert {s.id: said[s.id] for s in wanted[:-1]} == {s.id: generated(reference, s) for s in wanted[:-1]}
    whole = Model(str(folder))
    assert said[16] == served(whole, wanted)[16]
    expected: dict[int, tuple[Any, Any]] = {}
    assert keys == first_step(whole, lambda layer, k, v: expected.update({layer: (k, v)}))
    for layer in range(3):
        for ours, theirs in zip(seen[layer], expected[layer], strict=True):
            torch.testing.assert_close(ours, theirs.clone(), rtol=1e-4, atol=1e-4)


def first_step(model: Any, seen: Any) -> list[int]:
    """The token after a prompt, with the keys and values of all layers and heads shown."""
    replica, memory = Replica(CHUNKED, blocks=8, block_tokens=4, max_context=99), model.memory(8, 4)
    replica.submit(Submit(0, tuple(range(20)), Sampling(2)))
    step = replica.schedule(0.0)
    assert step is not None
    found: list[int] = model.execute(step, memory, seen)
    return found
