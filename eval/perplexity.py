"""Perplexity of a text whose earlier part has crossed the link: the sensitive check that task scores are too coarse for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from eval.answering import Answering, encode, first_token
from eval.contract import RAW, Answer, Ask
from eval.prefill import Tokens
from eval.score import divergence
from eval.tasks import CONVERSATIONS
from thunderserve.spec.errors import SpecError

CONTEXT, SCORED = 512, 128
"""Tokens before the hand-over, and those scored after it, of each piece of the text."""
OWN_TEXT = Path(__file__).with_name("passage.txt")
"""Prose written for this project, for machines without any data: one piece of text, so a rough figure."""


def answers(
    answering: Answering,
    ask: Ask,
    codecs: tuple[str, ...],
    known: frozenset[tuple[int, str]],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Answer]:
    """One answer a piece and codec; a piece is a question. ``ask.data``: a text file, or the data folder (CoQA's stories)."""
    found = pieces(answering, text_of(ask.data))[: ask.limit]
    for index, (context, scored) in enumerate(found):
        if not all((index, codec) in known for codec in ask.codecs):
            received = answering.hand_over([context], codecs)[0]
            rows = answering.likelihoods([received[codec] for codec in codecs], [scored], keep=True)
            seen = dict(zip(codecs, rows, strict=True))
            for codec in codecs:
                yield Answer(
                    question=index,
                    codec=codec,
                    scores={},
                    loglikelihoods=(seen[codec][0].total,),
                    continuation_tokens=(len(scored),),
                    kl=divergence(seen[RAW], seen[codec]),
                    context_tokens=len(context) - 1,
                    raw_bytes=received[codec].raw_bytes,
                    wire_bytes=received[codec].wire_bytes,
                    group=str(index),
                )
        if progress is not None:
            progress(index + 1, len(found))


def text_of(data: str | None) -> str:
    """The text: a file, the stories of the local CoQA conversations, or our own passage."""
    if data is None:
        return OWN_TEXT.read_text(encoding="utf-8")
    path = Path(data)
    if path.is_dir():
        path = path / CONVERSATIONS
        if not path.is_file():
            raise SpecError("no such file", file=path, remedy="give a text file, or the folder that holds it")
        lines = path.read_text(encoding="utf-8").splitlines()
        return "\n\n".join(dict.fromkeys(str(json.loads(line)["story"]) for line in lines))
    return path.read_text(encoding="utf-8")


def pieces(answering: Answering, text: str) -> list[tuple[Tokens, Tokens]]:
    """``text`` in pieces of CONTEXT + SCORED tokens, the rest dropped; a text shorter than one piece is halved."""
    ids = (first_token(answering.weights), *encode(answering.weights, text))
    size = CONTEXT + SCORED
    if len(ids) < size:
        middle = max(len(ids) // 2, 1)
        return [(ids[:middle], ids[middle:])]
    return [(ids[i : i + CONTEXT], ids[i + CONTEXT : i + size]) for i in range(0, len(ids) - size + 1, size)]
