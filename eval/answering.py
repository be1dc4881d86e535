"""What a model answers to one context under many codecs: the context is prefilled once, and a copy takes each round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from eval.decode import Ended, Start, greedy
from eval.prefill import Prefiller, Tokens
from eval.round_trip import Arrived, RoundTrip
from eval.score import Likelihood, score
from eval.weights import Weights


class Handed(NamedTuple):
    """A context as a decode replica takes it over under one codec: KV of all tokens but the last, and the last token."""

    start: Start
    raw_bytes: int
    wire_bytes: int


class Answering:
    """A model behind a slow link. Prefill runs in full precision; what crosses the link is the KV of ``context[:-1]``.

    The last token of the context is computed by the receiver: its logits must come from the KV that arrived, or the first
    token of an answer, and every log-likelihood of one token, would never meet the codec.
    """

    def __init__(self, weights: Weights, codecs: Sequence[str], wire_dtype: str = "float16") -> None:
        self.weights = weights
        self.trips = {codec: RoundTrip(codec, wire_dtype) for codec in codecs}
        self.prefill = Prefiller(weights)

    def hand_over(self, contexts: Sequence[Tokens], codecs: Sequence[str]) -> list[dict[str, Handed]]:
        """Prefill ``contexts`` (at least one token each) and send each over every codec."""
        layers = self.prefill([context[:-1] for context in contexts])
        found = []
        for context, computed in zip(contexts, layers, strict=True):
            arrived: dict[str, Arrived] = {codec: self.trips[codec](computed) for codec in codecs}
            found.append(
                {
                    codec: Handed(Start(one.layers, context[-1]), one.raw_bytes, one.wire_bytes)
                    for codec, one in arrived.items()
                }
            )
        return found

    def generate(self, handed: Sequence[Handed], *, stops: Sequence[str], max_tokens: int) -> list[Ended]:
        """Greedy text after each, all in one batch."""
        return greedy(self.weights, [one.start for one in handed], stops=stops, max_tokens=max_tokens)

    def likelihoods(
        self, handed: Sequence[Handed], continuations: Sequence[Tokens], *, keep: bool = False
    ) -> list[list[Likelihood]]:
        """Likelihood of every continuation after each context: a list a context."""
        starts = [one.start for one in handed for _ in continuations]
        flat = score(self.weights, starts, list(continuations) * len(handed), keep=keep)
        width = len(continuations)
        return [flat[i * width : (i + 1) * width] for i in range(len(handed))]


def encode(weights: Weights, text: str) -> Tokens:
    """Token ids of ``text``, with the special tokens that the tokenizer puts in front by itself."""
    return tuple(weights.tokenizer.encode(text))


def encode_pair(weights: Weights, context: str, continuation: str) -> tuple[Tokens, Tokens]:
    """Ids of both, split where lm-eval splits them: trailing spaces of the context go with the continuation."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    whole = encode(weights, context + continuation)
    first = encode(weights, context)
    return first, whole[len(first) :]


def fitted(weights: Weights, context: Tokens, room: int) -> Tokens:
    """The end of ``context`` that leaves ``room`` tokens; a beginning-of-sequence token where nothing is left."""
    kept = context[-max(weights.max_context - room, 1) :]
    return kept or (first_token(weights),)


def first_token(weights: Weights) -> int:
    """What stands before a text that has no context."""
    tokenizer: Any = weights.tokenizer
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return int(found)
