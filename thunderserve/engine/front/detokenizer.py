"""From tokens to text as they come: never half a character, and in the end what decoding all at once gives."""

from __future__ import annotations

from typing import Any

HALF = "\ufffd"
"""What decoders write for bytes that are no character, or not yet."""
LONGEST_CHARACTER = 4
"""Bytes of UTF-8. So many tokens that gave half characters cannot become one any more: these are told, but for the last."""
LONGEST_WINDOW = 32
"""Tokens that are decoded again at each step, at most (where a character does not need more)."""
KEPT = 8


class Detokenizer:
    """The text of one answer.

    What a token adds depends on those before it (spaces, characters of several tokens), so a window of the last tokens is decoded
    anew each time, as vLLM does; of its text the first ``_told`` characters have been given out.

    Args:
        tokenizer: one of transformers.
        unwritten: tokens that decoding leaves out.
    """

    def __init__(self, tokenizer: Any, unwritten: frozenset[int] = frozenset()) -> None:
        self._tokenizer, self._unwritten = tokenizer, unwritten
        self._window: list[int] = []
        self._text = ""
        self._told = 0
        self._quiet = 0
        """Tokens since text was given out last."""
        self._fresh = 0
        """Tokens of the window whose text was given out as a whole, when that last happened."""

    def add(self, token: int) -> str:
        """The text that is certain now and was not before."""
        if token in self._unwritten:
            return ""
        self._window.append(token)
        self._text = self._decoded(self._window)
        certain = len(self._text.rstrip(HALF))
        self._quiet += 1
        halves = len(self._text) - max(certain, self._told)
        if min(halves, self._quiet) >= LONGEST_CHARACTER:
            certain = len(self._text) - 1
        said = self._text[self._told : certain]
        self._told = max(self._told, certain)
        if said:
            self._quiet = 0
            self._narrow()
        return said

    def finish(self) -> str:
        """What was held back: half a character at the end of an answer."""
        said = self._text[self._told :]
        self._told = len(self._text)
        return said

    def _narrow(self) -> None:
        """Forget tokens at the beginning that the text to come cannot depend on."""
        whole = self._told == len(self._text)
        first = self._fresh if whole else 0
        if not whole and len(self._window) > LONGEST_WINDOW:
            first = len(self._window) - KEPT
        rest = self._text[self._told :]
        if first:
            text = self._decoded(self._window[first:])
            if len(text) > len(rest) and text.endswith(rest):
                del self._window[:first]
                self._text, self._told = text, len(text) - len(rest)
                self._fresh = max(0, self._fresh - first)
        if whole:
            self._fresh = len(self._window)

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
