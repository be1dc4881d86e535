"""Without a codec our model is lm-eval's own Hugging Face model: same texts, same likelihoods, with and without padding."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the accuracy evaluation needs the extra 'eval'")
torch = pytest.importorskip("torch")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

from eval.contract import EXACT  # noqa: E402
from eval.lm import KvRoundTrip  # noqa: E402

logging.getLogger("lm_eval").setLevel(logging.ERROR)
CONTEXTS = (
    "Question: what is the capital of France?\nAnswer:",
    "A long story about a river, a bridge and a bear that would not cross either of them. Q: who?\nA:",
    "x",
    "Question: what is the capital of France? And of Spain? \n",
)
CHOICES = (" Paris", " the bear", "y and z", " ")


def requests(kind: str, arguments: list[tuple[object, ...]]) -> list[Instance]:
    return [Instance(kind, {}, given, 0, (kind, number, 1)) for number, given in enumerate(arguments)]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thunderserve.engine.checkpoint.tiny import tiny

    return tiny(tmp_path_factory.mktemp(request.param), request.param, seed=3)


def test_likelihoods_are_those_of_lm_eval(folder: Path) -> None:
    asked = requests("loglikelihood", [(context, choice) for context in CONTEXTS for choice in CHOICES])
    theirs = HFLM(str(folder), dtype="float32", device="cpu", batch_size=4).loglikelihood(asked, disable_tqdm=True)
    ours = KvRoundTrip(str(folder), codec=EXACT).loglikelihood(asked, disable_tqdm=True)
    for (a, greedy_a), (b, greedy_b) in zip(theirs, ours, strict=True):
        assert b == pytest.approx(a, abs=2e-4)
        assert greedy_a == greedy_b


@pytest.mark.parametrize("batch", [1, 4])
def test_texts_are_those_of_lm_eval(folder: Path, batch: int) -> None:
    arguments = [(context, {"until": ["\n", "Q:"], "max_gen_toks": 24, "do_sample": False}) for context in CONTEXTS]
    theirs = HFLM(str(folder), dtype="float32", device="cpu", batch_size=2)
    ours = KvRoundTrip(str(folder), codec=EXACT, batch_size=batch)
    asked = requests("generate_until", list(arguments))
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)
