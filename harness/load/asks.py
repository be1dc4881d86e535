"""From a trace to requests: the same trace and seed give the same prompts, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from thunderserve.spec.draw import uniform
from thunderserve.spec.trace import Trace

Prompts = Literal["tokens", "text"]

COMMON = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they "
    "which one you were all her she there would their we him been has when who will no more if out so up said "
    "what its about than into them can only other time new some could these two may first then do any like my "
    "now over such our man me even most made after also did many"
)
"""Words of about a token each in most vocabularies."""


class Ask(NamedTuple):
    """One request."""

    arrival_s: float
    """When it is to be sent, from the start."""
    prompt: tuple[int, ...] | str
    prompt_tokens: int
    """As wanted; of a text the server knows better."""
    output_tokens: int
    """To be generated, neither more nor less."""


def asks_of(trace: Trace, seed: int, *, vocabulary: int, prompts: Prompts = "tokens") -> tuple[Ask, ...]:
    """A request for each of the trace, in its order.

    Token ids are uniform below ``vocabulary``, words uniform among common ones. The prompt of a request depends on the seed and
    its place in the trace; a longer one begins with the shorter.
    """
    rows = zip(trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    return tuple(
        Ask(arrival_s, _prompt(seed, f"load/{place}", prompt, vocabulary, prompts), prompt, output)
        for place, (arrival_s, prompt, output) in enumerate(rows)
    )


def warm_ups(count: int, seed: int, *, vocabulary: int, prompts: Prompts = "tokens") -> tuple[Ask, ...]:
    """Short requests that no trace has, to be sent before the clock starts."""
    return tuple(Ask(0.0, _prompt(seed, f"load/warm-up/{i}", 32, vocabulary, prompts), 32, 8) for i in range(count))


def _prompt(seed: int, purpose: str, length: int, vocabulary: int, prompts: Prompts) -> tuple[int, ...] | str:
    drawn = uniform(seed, purpose, length)
    if prompts == "text":
        words = COMMON.split()
        return " ".join(words[i] for i in (drawn * len(words)).astype(np.int64))
    return tuple((drawn * vocabulary).astype(np.int64).tolist())


def scaled(trace: Trace, factor: float, *, max_prompt: int | None = None, max_output: int | None = None) -> Trace:
    """The same arrivals with lengths times ``factor``, rounded, from 1 to the given most."""

    def lengths(values: Sequence[int] | np.ndarray, most: int | None) -> np.ndarray:
        return np.clip(np.rint(np.asarray(values) * factor), 1, most).astype(np.int64)

    prompt, output = lengths(trace.prompt_tokens, max_prompt), lengths(trace.output_tokens, max_output)
    return Trace(trace.arrival_s, prompt, output, trace.dropped)
