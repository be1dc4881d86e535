"""Greedy text is what transformers generates, up to the first stop."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from eval.answering import Answering, encode, encode_pair, fitted  # noqa: E402
from eval.decode import Ended, end_tokens  # noqa: E402
from eval.weights import Weights  # noqa: E402

CONTEXTS = (
    "Question: what is the capital of France?\nAnswer:",  # longer than every window
    "A long story about a river, a bridge and a bear that would not cross either of them. Q: who?\nA:",
    "xy",
)


def say(weights: Weights, texts: tuple[str, ...], *stops: str, tokens: int = 32) -> list[Ended]:
    answering = Answering(weights, ["exact"])
    handed = answering.hand_over([encode(weights, text) for text in texts], ["exact"])
    return answering.generate([one["exact"] for one in handed], stops=stops, max_tokens=tokens)


def generated(weights: Weights, text: str, tokens: int = 32) -> list[int]:
    ids = torch.tensor([encode(weights, text)])
    with torch.inference_mode():
        found = weights.model.generate(ids, do_sample=False, max_new_tokens=tokens, pad_token_id=258)
    return found[0, ids.shape[1] :].tolist()  # type: ignore[no-any-return]


def test_texts_are_those_of_generate(each: Weights) -> None:
    expected = [generated(each, text) for text in CONTEXTS]
    texts = [each.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert len(set(texts)) == len(CONTEXTS), "answers that are all alike would prove nothing"
    assert say(each, CONTEXTS) == [Ended(text, len(ids)) for text, ids in zip(texts, expected, strict=True)]
    assert [say(each, (text,))[0].text for text in CONTEXTS] == texts


def test_text_ends_before_the_first_stop_and_no_token_later(weights: Weights) -> None:
    whole = say(weights, CONTEXTS[:1])[0].text
    plain = [place for place, letter in enumerate(whole) if place > 2 and letter.isascii()]
    assert plain, "the tiny model must say a letter to stop at"
    stop = whole[plain[0]]
    stopped = say(weights, CONTEXTS[:1], stop, "never said")[0]
    assert stopped.text == whole[: whole.index(stop)]
    assert stopped.tokens < 32


def test_a_row_that_stops_leaves_the_others_as_they_are(weights: Weights) -> None:
    whole = say(weights, CONTEXTS)
    own = [letter for letter in whole[1].text if letter.isascii() and letter not in whole[0].text + whole[2].text]
    assert own, "a letter that only the second says is needed"
    stopped = say(weights, CONTEXTS, own[0])
    assert (stopped[0], stopped[2]) == (whole[0], whole[2])
    assert stopped[1].tokens < whole[1].tokens


def test_an_end_token_ends_the_text(weights: Weights) -> None:
    second = generated(weights, CONTEXTS[0])[1]
    kept = weights.model.generation_config.eos_token_id
    weights.model.generation_config.eos_token_id = [kept, second]
    try:
        assert end_tokens(weights) >= {second, 257}
        assert say(weights, CONTEXTS[:1])[0].tokens == 2
    finally:
        weights.model.generation_config.eos_token_id = kept


def test_a_context_is_cut_at_its_beginning_to_leave_room(weights: Weights) -> None:
    assert fitted(weights, tuple(range(3000)), 48) == tuple(range(1000, 3000))
    assert fitted(weights, (1, 2, 3), 48) == (1, 2, 3)
    assert fitted(weights, (), 48) == (256,), "a beginning-of-sequence token stands for no context"


@pytest.mark.parametrize(
    ("context", "continuation", "expected"),
    [("Q: who?\nA:", " bear", ("Q: who?\nA:", " bear")), ("Q: who? \n ", "bear", ("Q: who?", " \n bear"))],
)
def test_spaces_at_the_end_of_a_context_go_with_the_continuation(
    weights: Weights, context: str, continuation: str, expected: tuple[str, str]
) -> None:
    found = encode_pair(weights, context, continuation)
    assert found == tuple(encode(weights, text) for text in expected)
