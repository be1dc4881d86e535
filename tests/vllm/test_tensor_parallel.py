"""A prefill instance of three tensor-parallel ranks hands over to a decode instance of one: each rank sends its heads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Served, ask, end, start
from test_split import answer, handed_over, prompt

TOKENS = 12


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = start(tmp_path_factory.mktemp("tp"), prefill=(0, 1, 2))
    yield served
    end(served)


def test_greedy_answers_equal_those_of_the_decode_instance_alone(three: Served) -> None:
    from transformers import AutoTokenizer

    from thunderserve.engine.checkpoint.locate import locate

    words = AutoTokenizer.from_pretrained(locate("smollm2-135m"))
    prompts = [prompt(8000 + seed) for seed in range(6)]
    before = three.figures(1)
    found = [answer(three, one, TOKENS) for one in prompts]
    handed_over(three, before, prompts)
    body = {
        "model": "smollm2-135m",
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    alone = [ask(three.instances[1], "/v1/completions", body | {"prompt": one})["choices"][0] for one in prompts]
    assert found == [words.decode(one["token_ids"]) for one in alone]
