"""Text as it comes is the text of all tokens at once, cut at the first stop text."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

from thunderserve.engine.checkpoint.tiny import byte_tokenizer
from thunderserve.engine.front.detokenizer import HALF, Detokenizer
from thunderserve.engine.front.stops import Stops


@cache
def of_bytes() -> Any:
    return byte_tokenizer(264)


@cache
def of_fallback() -> Any:
    """As Llama 2 has it: words that begin with their space, and a token a byte for everything else."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "b", "▁the", "é"]
    model = models.BPE(
        vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token="<unk>", byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pieces(tokenizer: Any, tokens: list[int]) -> list[str]:
    special = frozenset(int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    text = Detokenizer(tokenizer, special)
    return [*map(text.add, tokens), text.finish()]


def at_once(tokenizer: Any, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_text_in_tokens_of_a_byte_comes_back_character_by_character(text: str) -> None:
    tokens = of_bytes().encode(text, add_special_tokens=False)
    said = pieces(of_bytes(), tokens)
    assert "".join(said) == text
    if HALF not in text:
        assert HALF not in "".join(said)


@given(st.lists(st.one_of(st.integers(0, 263), st.integers(120, 263)), max_size=120))
@settings(max_examples=200, deadline=None)
def test_any_tokens_give_what_decoding_at_once_gives(tokens: list[int]) -> None:
    assert "".join(pieces(of_bytes(), tokens)) == at_once(of_bytes(), tokens)


@pytest.mark.parametrize("repeated", [[0], [100], [255], [200, 150], [258], [100, 258]])
def test_a_long_run_of_one_token_gives_what_decoding_at_once_gives(repeated: list[int]) -> None:
    tokens = (repeated * 300)[:300]
    assert "".join(pieces(of_bytes(), tokens)) == at_once(of_bytes(), tokens)


def test_the_window_that_is_decoded_anew_stays_short() -> None:
    class Counting:
        longest = 0

        def decode(self, tokens: list[int], **how: Any) -> str:
            self.longest = max(self.longest, len(tokens))
            return at_once(of_bytes(), tokens)

    for token in (40, 200):
        counting = Counting()
        text = Detokenizer(counting)
        for _ in range(500):
            text.add(token)
        assert counting.longest <= 40


@given(st.lists(st.sampled_from(["a", " a", " the", "é", "你", "🙂", "  ", "b a", "\n"]), max_size=25).map("".join))
@settings(max_examples=150, deadline=None)
def test_text_in_words_and_byte_fallbacks_comes_back(text: str) -> None:
    tokenizer = of_fallback()
    vocabulary = tokenizer.get_vocab()
    tokens = []
    for character in text:
        known = vocabulary.get("▁" if character == " " else character)
        tokens += [known] if known is not None else [vocabulary[f"<0x{byte:02X}>"] for byte in character.encode()]
    said = "".join(pieces(tokenizer, tokens))
    assert said == at_once(tokenizer, tokens)
    assert said == text.removeprefix(" ")


def test_half_a_character_is_held_back_until_it_is_whole_or_the_end() -> None:
    tokens = of_bytes().encode("a🙂", add_special_tokens=False)
    assert pieces(of_bytes(), tokens) == ["a", "", "", "", "🙂", ""]
    assert pieces(of_bytes(), tokens[:-1]) == ["a", "", "", "", HALF]


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The slow twin: at every place, look whether a stop ends there."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(
    st.lists(st.text("abc", max_size=6), max_size=10),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
@settings(max_examples=400)
def test_a_stop_text_is_found_however_the_text_is_cut(parts: list[str], wanted: list[str]) -> None:
    stops = Stops(wanted)
    said = "".join(map(stops.feed, parts))
    found = stops.found
    said += "" if found else stops.finish()
    assert (said, found) == cut("".join(parts), wanted)


def test_no_more_is_held_back_than_may_become_a_stop_text() -> None:
    stops = Stops(["END"])
    assert [stops.feed(part) for part in ("abE", "N", "x", "EN")] == ["ab", "", "ENx", ""]
    assert stops.finish() == "EN"
