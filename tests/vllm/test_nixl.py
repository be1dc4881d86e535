"""The same connector with NIXL in the place of TCP: answers stay those of a single vLLM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Served, end, start
from test_split import alone, answer, handed_over, prompt


@pytest.fixture(scope="module")
def nixl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = start(tmp_path_factory.mktemp("nixl"), "--kv-transport", "nixl")
    yield served
    end(served)


def test_greedy_answers_equal_those_of_a_single_vllm(nixl: Served) -> None:
    from transformers import AutoTokenizer

    from thunderserve.engine.checkpoint.locate import locate

    words = AutoTokenizer.from_pretrained(locate("smollm2-135m"))
    prompts = [prompt(7000 + seed) for seed in range(12)]
    expected = [words.decode(alone(nixl, one, 16)) for one in prompts]
    before = nixl.figures(1)
    assert [answer(nixl, one, 16) for one in prompts] == expected
    handed_over(nixl, before, prompts)
