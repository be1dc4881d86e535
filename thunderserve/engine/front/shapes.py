"""Answers as OpenAI writes them."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from thunderserve.engine.front.asked import Asked
from thunderserve.engine.front.choice import Piece
from thunderserve.engine.messages import Reason

PREFIX = {"completion": "cmpl-", "chat": "chatcmpl-"}
WHOLE = {"completion": "text_completion", "chat": "chat.completion"}
CHUNK = {"completion": "text_completion", "chat": "chat.completion.chunk"}
DONE = b"data: [DONE]\n\n"


@dataclass
class Choice:
    """One answer as far as it has come."""

    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reason: Reason | None = None


class Letter:
    """All answers of one request, and how they are written: as a whole, or in chunks.

    Args:
        asked: what they answer.
        model: its name, as clients give it.
    """

    def __init__(self, asked: Asked, model: str) -> None:
        self._asked, self._kind = asked, asked.kind
        self._head = {"id": PREFIX[asked.kind] + secrets.token_hex(12), "created": int(time.time()), "model": model}
        self.choices = [Choice() for _ in range(len(asked.prompts) * asked.wishes.choices)]

    def add(self, piece: Piece) -> None:
        """Take it in."""
        choice = self.choices[piece.choice]
        choice.text.append(piece.text)
        choice.tokens.append(piece.token)
        choice.reason = piece.reason

    @property
    def output_tokens(self) -> int:
        """Of all choices."""
        return sum(len(choice.tokens) for choice in self.choices)

    def usage(self) -> dict[str, int]:
        """Tokens of the prompts, of the answers, and of both."""
        prompt, answer = self._asked.prompt_tokens, self.output_tokens
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        told = [self._choice(index, choice) for index, choice in enumerate(self.choices)]
        return self._head | {"object": WHOLE[self._kind], "choices": told, "usage": self.usage()}

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        text = "".join(choice.text)
        inner = {"text": text} if self._kind == "completion" else {"message": {"role": "assistant", "content": text}}
        return self._framed(index, inner, choice.reason, choice.tokens)

    def chunk(self, piece: Piece) -> bytes:
        """The event of one piece, which was taken in: one an output token, also where there is no text to tell yet."""
        inner: dict[str, Any] = {"text": piece.text}
        if self._kind == "chat":
            role = {"role": "assistant"} if len(self.choices[piece.choice].tokens) == 1 else {}
            inner = {"delta": role | {"content": piece.text}}
        return self._event([self._framed(piece.choice, inner, piece.reason, [piece.token])], None)

    def last(self) -> bytes:
        """What follows the last piece."""
        return (self._event([], self.usage()) if self._asked.wishes.include_usage else b"") + DONE

    def _framed(self, index: int, inner: dict[str, Any], reason: Reason | None, tokens: list[int]) -> dict[str, Any]:
        ids = {"token_ids": tokens} if self._asked.wishes.token_ids else {}
        return {"index": index, **inner, "logprobs": None, "finish_reason": reason, **ids}

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
        body = self._head | {"object": CHUNK[self._kind], "choices": choices}
        if self._asked.wishes.include_usage:
            body["usage"] = usage
        return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def model_list(model: str, max_context: int, vocabulary: int, created_s: int) -> dict[str, Any]:
    """The body of ``/v1/models``; ``max_model_len`` as vLLM says it, ``vocab_size`` of our own."""
    more = {"max_model_len": max_context, "vocab_size": vocabulary}
    entry = {"id": model, "object": "model", "created": created_s, "owned_by": "thunderserve"}
    return {"object": "list", "data": [entry | more]}
