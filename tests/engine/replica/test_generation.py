"""Every batching path gives the tokens that transformers' own ``generate`` gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from thunderserve.engine.checkpoint.tiny import Architecture
from thunderserve.engine.messages import Role, Sampling, Submit
from thunderserve.engine.replica.core import Replica
from thunderserve.engine.replica.model import Model

ROLES = {
    "chunked": Role("both", "chunked", 8, 24),
    "whole prompts first": Role("both", "prefill_first", 8, 64),
}


def requests(count: int, seed: int) -> list[Submit]:
    """Prompts of 10 to 39 tokens, of which the first nine are common."""
    rng = np.random.default_rng(seed)
    common = rng.integers(0, 250, 9).tolist()
    return [
        Submit(
            i, (*common, *rng.integers(0, 250, int(rng.integers(1, 30))).tolist()), Sampling(int(rng.integers(1, 25)))
        )
        for i in range(count)
    ]


def served(model: Model, replica: Replica, wanted: list[Submit]) -> dict[int, list[int]]:
    """The tokens of all requests, said in their order; books checked after every step."""
    memory = model.memory(replica.blocks.count, replica.block_tokens)
    said: dict[int, list[int]] = {submit.id: [] for submit in wanted}
    for submit in wanted:
        replica.submit(submit)
    step_number = 0.0
    while len(replica):
        step = replica.schedule(step_number)
        assert step is not None
        for token in replica.complete(model.execute(step, memory), step_number + 1).tokens:
            assert token.place == len(said[token.id])
            said[token.id].append(token.token)
        replica.check()
        step_number += 1
    return said


@cache
def reference(folder: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def generated(folder: Any, submit: Submit) -> list[int]:
    prompt = torch.tensor([submit.prompt])
    found = reference(folder).generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=submit.sampling.max_tokens, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return [int(token) for token in found[0, len(submit.prompt) :]]


@pytest.mark.parametrize("policy", ROLES)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "gemma3"])
def test_a_crowded_replica_says_what_generate_says(tiny_model: Any, architecture: Architecture, policy: str) -> None:
    folder = tiny_model(architecture)
    replica = Replica(ROLES[policy], blocks=40, block_tokens=4, max_context=2048)
    wanted = requests(20, seed=0)
    said = served(Model(str(folder)), replica, wanted)
    assert said == {submit.id: generated(folder, submit) for submit in wanted}
    assert replica.preemptions > 0  # else this test is too easy: memory never ran out
    assert replica.reused_tokens > 0


def test_without_reuse_of_beginnings_the_same_is_said(tiny_model: Any) -> None:
    model, wanted = Model(str(tiny_model("llama"))), requests(8, seed=1)
    plain = Replica(ROLES["chunked"], blocks=64, block_tokens=4, max_context=2048, reuse=False)
    sharing = Replica(ROLES["chunked"], blocks=64, block_tokens=4, max_context=2048)
    assert served(model, plain, wanted) == served(model, sharing, wanted)
    assert plain.reused_tokens == 0
    assert plain.prompt_tokens > sharing.prompt_tokens


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_compiled_attention_is_the_plain_one(tiny_model: Any, architecture: Architecture, dtype: str) -> None:
    """float32: the same tokens. bfloat16: logits differ by its rounding, so the first step alone is compared."""
    folder, wanted = str(tiny_model(architecture)), requests(6, seed=2)
    if dtype == "bfloat16":
        wanted = [submit._replace(sampling=Sampling(2)) for submit in wanted]
    both = [
        served(
            Model(folder, dtype=dtype, kind=kind),
            Replica(ROLES["chunked"], blocks=64, block_tokens=4, max_context=99),
            wanted,
        )
        for kind in ("auto", "sdpa")
    ]
    if dtype == "float32":
        assert both[0] == both[1]
    else:
        assert sum(both[0][i] == both[1][i] for i in both[0]) >= 5


def test_an_end_token_ends_an_answer_in_every_place(tiny_model: Any) -> None:
    folder = tiny_model("llama")
    wanted = requests(10, seed=3)
    ended = []
    for number, submit in enumerate(wanted):
        whole = generated(folder, submit)
        stop = whole[min(number, len(whole) - 1)]
        ended.append(submit._replace(sampling=Sampling(submit.sampling.max_tokens, stop_tokens=(stop,))))
    replica = Replica(ROLES["chunked"], blocks=64, block_tokens=4, max_context=2048)
    said = served(Model(str(folder)), replica, ended)
    for submit in ended:
        whole, stop = generated(folder, submit), submit.sampling.stop_tokens[0]
        assert said[submit.id] == whole[: whole.index(stop) + 1]


def test_an_answer_that_is_taken_up_elsewhere_goes_on_as_it_would_have(tiny_model: Any) -> None:
    folder = tiny_model("qwen2")
    model = Model(str(folder))
    sampled = [s._replace(sampling=Sampling(20, temperature=0.9, top_p=0.9, seed=s.id)) for s in requests(6, seed=4)]
    for wanted in (requests(6, seed=4), sampled):
        whole = served(model, Replica(ROLES["chunked"], blocks=64, block_tokens=4, max_context=2048), wanted)
        again = [s._replace(emitted=tuple(whole[s.id][: len(whole[s.id]) // 2])) for s in wanted]
        replica = Replica(ROLES["chunked"], blocks=64, block_tokens=4, max_context=2048)
        memory = model.memory(64, 4)
        rest: dict[int, list[int]] = {s.id: list(s.emitted) for s in again}
        for submit in again:
            replica.submit(submit)
        while (step := replica.schedule(0.0)) is not None:
            for token in replica.complete(model.execute(step, memory), 0.0).tokens:
                assert token.place == len(rest[token.id])
                rest[token.id].append(token.token)
        assert rest == whole
