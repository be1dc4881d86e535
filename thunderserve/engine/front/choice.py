"""One answer: tokens of the engine on their way to text, to the first thing that ends it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from thunderserve.engine.front.asked import Asked, sampling, stop_tokens
from thunderserve.engine.front.contract import Engine
from thunderserve.engine.front.detokenizer import Detokenizer
from thunderserve.engine.front.stops import Stops
from thunderserve.engine.front.words import Words
from thunderserve.engine.messages import Reason, Sampling


class Piece(NamedTuple):
    """What one token adds to one choice."""

    choice: int
    token: int
    text: str
    """Often nothing: half a character, or what may be the beginning of a stop text."""
    reason: Reason | None


def choices(asked: Asked, engine: Engine, words: Words, ends: tuple[int, ...]) -> list[AsyncGenerator[Piece, None]]:
    """A generator for each choice, all of a prompt beside each other. Raises Refused before any is begun."""
    wanted = asked.wishes
    jobs = [
        (prompt, sampling(wanted, prompt, index, engine.max_context, ends))
        for prompt in asked.prompts
        for index in range(wanted.choices)
    ]
    return [
        _pieces(number, prompt, how, asked, engine, words, stop_tokens(wanted, ends))
        for number, (prompt, how) in enumerate(jobs)
    ]


async def _pieces(
    number: int,
    prompt: Sequence[int],
    how: Sampling,
    asked: Asked,
    engine: Engine,
    words: Words,
    ends: tuple[int, ...],
) -> AsyncGenerator[Piece, None]:
    """The pieces of one choice; closing it, or a stop text, cancels the rest in the engine."""
    writer = Writer(asked, words, ends)
    async with aclosing(engine.generate(prompt, how)) as tokens:
        async for token in tokens:
            text, reason = writer.write(token.token, token.reason)
            yield Piece(number, token.token, text, reason)
            if reason is not None:
                return
    raise RuntimeError("the engine ended an answer without a reason")


class Writer:
    """The text of one choice, and when it ends.

    ``min_tokens``: end tokens and stop texts among the first so many are passed over (unlike in vLLM, where the model cannot say
    the end token before).
    """

    def __init__(self, asked: Asked, words: Words, ends: tuple[int, ...]) -> None:
        self._text = Detokenizer(words.tokenizer, words.unwritten)
        self._stops = Stops(asked.wishes.stops)
        self._ends, self._min_tokens = frozenset(ends), asked.wishes.min_tokens
        self._count = 0

    def write(self, token: int, reason: Reason | None) -> tuple[str, Reason | None]:
        """What one token adds, and why it is the last, if it is."""
        self._count += 1
        late = self._count > self._min_tokens
        if late and token in self._ends:
            return self._rest(), "stop"  # the end token itself is no text
        said = self._through(self._text.add(token))
        if reason is not None and not self._stops.found:
            said += self._rest()
        return said, "stop" if self._stops.found else reason

    def _rest(self) -> str:
        said = self._through(self._text.finish())
        return said if self._stops.found else said + self._stops.finish()

    def _through(self, text: str) -> str:
        return self._stops.feed(text) if self._count > self._min_tokens else text
