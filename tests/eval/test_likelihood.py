"""Likelihood, divergence and perplexity against closed forms and transformers' own loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from eval import perplexity  # noqa: E402
from eval.answering import Answering, encode  # noqa: E402
from eval.contract import Ask  # noqa: E402
from eval.measure import measure  # noqa: E402
from eval.score import Likelihood, divergence  # noqa: E402
from eval.weights import Weights  # noqa: E402
from thunderserve.spec.errors import SpecError  # noqa: E402

VOCABULARY = 264


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Long enough for two pieces of 640 byte tokens."""
    path = tmp_path / "prose.txt"
    path.write_text("".join(f"Line {i} of a story about {i * i % 17} bears and a bridge.\n" for i in range(35)))
    return str(path)


def likelihood(*distributions: tuple[float, ...]) -> Likelihood:
    return Likelihood(0.0, False, torch.tensor(distributions).log())


def test_divergence_is_the_mean_over_all_tokens() -> None:
    p, q = (0.5, 0.5), (0.25, 0.75)
    one = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence([likelihood(p)], [likelihood(q)]) == pytest.approx(one, rel=1e-5)
    # Three tokens in two continuations, one of them different: a third of it, not a half.
    assert divergence([likelihood(p, p), likelihood(p)], [likelihood(p, q), likelihood(p)]) == pytest.approx(
        one / 3, rel=1e-5
    )
    assert divergence([likelihood(p)], [likelihood(p)]) == 0
    back = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert divergence([likelihood(q)], [likelihood(p)]) == pytest.approx(back, rel=1e-5)


def test_a_uniform_model_gives_the_logarithm_of_its_vocabulary(weights: Weights) -> None:
    head = weights.model.lm_head.weight
    kept = head.detach().clone()
    try:
        with torch.no_grad():
            head.zero_()
        answering = Answering(weights, ["exact"])
        handed = answering.hand_over([encode(weights, "Any context")], ["exact"])[0]["exact"]
        found = answering.likelihoods([handed], [encode(weights, " seven b"), encode(weights, "x")])[0]
    finally:
        with torch.no_grad():
            head.copy_(kept)
    assert [one.total for one in found] == pytest.approx([-8 * math.log(VOCABULARY), -math.log(VOCABULARY)], rel=1e-6)


def test_perplexity_without_a_codec_is_the_loss_of_transformers(each: Weights, text: str) -> None:
    """``labels`` of -100 leave the context out; transformers averages over the tokens that are left."""
    ask = Ask("tiny", "perplexity", ("exact", "raw", "int2"), data=text)
    found = list(measure(ask, weights=each))
    pieces = perplexity.pieces(Answering(each, []), Path(text).read_text())
    assert len(pieces) == 2
    exact = [answer for answer in found if answer.codec == "exact"]
    for answer, (context, scored) in zip(exact, pieces, strict=True):
        assert (len(context), len(scored)) == (512, 128)
        ids = torch.tensor([[*context, *scored]])
        labels = torch.cat([torch.full((1, 512), -100), ids[:, 512:]], 1)
        with torch.inference_mode():
            loss = each.model(input_ids=ids, labels=labels).loss.item()
        assert answer.loglikelihoods[0] / answer.continuation_tokens[0] == pytest.approx(-loss, abs=2e-4)
    by_codec = {codec: [a for a in found if a.codec == codec] for codec in ("raw", "int2")}
    assert {answer.kl for answer in by_codec["raw"]} == {0.0}
    assert all(answer.kl is not None and answer.kl > 1e-3 for answer in by_codec["int2"])


def test_text_is_cut_in_pieces_and_the_rest_dropped(weights: Weights) -> None:
    answering = Answering(weights, [])
    found = perplexity.pieces(answering, "a" * 1400)
    assert [(len(context), len(scored)) for context, scored in found] == [(512, 128)] * 2
    assert found[0][0][0] == 256, "the text begins with the token that begins a sequence"
    assert found[1][0][0] != 256
    ((context, scored),) = perplexity.pieces(answering, "a" * 99)
    assert (len(context), len(scored)) == (50, 50)


def test_the_text_is_a_file_the_stories_of_a_folder_or_our_own(questions: Path, tmp_path: Path) -> None:
    assert perplexity.text_of(str(questions)).count("Ada keeps three hens") == 1, "a story a conversation, not a turn"
    own = tmp_path / "own.txt"
    own.write_text("Prose.")
    assert perplexity.text_of(str(own)) == "Prose."
    assert perplexity.text_of(None) == perplexity.OWN_TEXT.read_text(encoding="utf-8")
    with pytest.raises(SpecError, match=r"coqa_subset_turns.validation.jsonl: no such file; give a text file"):
        perplexity.text_of(str(tmp_path))
