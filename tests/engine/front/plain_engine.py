"""A real engine, slow and obvious: a tiny random llama that computes everything anew for each token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from thunderserve.engine.front.contract import TooLong, Unavailable
from thunderserve.engine.messages import Sampling, Token
from thunderserve.engine.replica.sampling import choose

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


class PlainEngine:
    """``Engine`` by the book. What happens to requests is written down, and trouble can be ordered."""

    model = "tiny-llama"
    max_context = 512

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.chat_template = CHAT
        self.running: set[int] = set()
        self.generated: list[int] = []
        """Of each request that has ended or was cancelled: tokens computed."""
        self.token_s = 0.0
        """Waiting time of each token."""
        self.unavailable_at: int | None = None
        """The place of the token before which all workers are gone."""
        self.too_long = False
        self.status = "ok"
        self._count = 0

    def answer(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        """All tokens at once."""
        tokens = list(prompt)
        for place in range(sampling.max_tokens):
            tokens.append(self._next(tokens, sampling, place))
            if tokens[-1] in sampling.stop_tokens:
                break
        return tokens[len(prompt) :]

    def _next(self, tokens: Sequence[int], sampling: Sampling, place: int) -> int:
        with torch.no_grad():
            logits = self._model(torch.tensor([tokens])).logits[:, -1]
        return choose(logits, [(sampling, place)])[0]

    async def generate(
        self, prompt: Sequence[int], sampling: Sampling, *, number: int | None = None
    ) -> AsyncGenerator[Token, None]:
        if self.too_long:
            raise TooLong("no worker has room for it")
        self._count += 1
        mine, tokens = self._count, list(prompt)
        self.running.add(mine)
        try:
            for place in range(sampling.max_tokens):
                await asyncio.sleep(self.token_s)
                if place == self.unavailable_at:
                    raise Unavailable("all workers are gone")
                tokens.append(self._next(tokens, sampling, place))
                stop = tokens[-1] in sampling.stop_tokens
                last = stop or place + 1 == sampling.max_tokens
                yield Token(mine, place, tokens[-1], ("stop" if stop else "length") if last else None)
                if last:
                    return
        finally:
            self.running.discard(mine)
            self.generated.append(len(tokens) - len(prompt))

    def health(self) -> Mapping[str, Any]:
        return {"status": self.status, "workers": []}

    def metrics(self) -> Iterable[tuple[str, str, str, Mapping[str, str], float]]:
        yield "worker_waiting", "Requests that wait.", "gauge", {"replica": "0"}, 3.0
        yield "worker_waiting", "Requests that wait.", "gauge", {"replica": "1"}, 4.0
        yield "worker_steps_total", "Steps.", "counter", {"replica": "0"}, 7.0
