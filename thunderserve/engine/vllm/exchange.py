"""Requests to one vLLM instance over HTTP: token ids in, token ids out."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp

from thunderserve.engine.messages import Reason, Sampling

REASONS: Mapping[str, Reason] = {"stop": "stop", "length": "length"}
LONGEST_LINE = 1 << 20


class EngineError(RuntimeError):
    """The instance did not serve a request; in its words."""


class Piece(NamedTuple):
    """Tokens that came at once."""

    tokens: tuple[int, ...]
    reason: Reason | None


class Prefilled(NamedTuple):
    """The first token, and where the keys and values of the prompt wait."""

    token: int
    reason: Reason | None
    """``length``, unless the token ends the answer."""
    params: dict[str, Any] | None


class Exchange:
    """One instance.

    Args:
        session: of HTTP.
        url: without ``/v1``.
        name: of the model.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        self._session, self._url, self._name = session, url.rstrip("/"), name

    async def get(self, path: str) -> str:
        """The body of a page. Raises EngineError, OSError or aiohttp.ClientError."""
        async with self._session.get(self._url + path) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise EngineError(f"{path}: {answer.status} {text[:200]}")
            return text

    async def max_context(self) -> int:
        """Tokens of prompt and answer together that the instance takes. Raises as ``get`` does."""
        found = json.loads(await self.get("/v1/models"))
        return int(found["data"][0]["max_model_len"])

    async def prefill(self, prompt: Sequence[int], sampling: Sampling, params: Mapping[str, Any] | None) -> Prefilled:
        """One token of ``prompt``; its keys and values stay. Raises as ``get`` does."""
        body = self._body(prompt, sampling._replace(max_tokens=1), params)
        async with self._session.post(self._url + "/v1/completions", json=body) as answer:
            found = await _checked(answer)
        choice = found["choices"][0]
        return Prefilled(int(choice["token_ids"][0]), _reason(choice), found.get("kv_transfer_params"))

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, params: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Tokens as they come; leaving early cancels the request there. Raises as ``get`` does."""
        body = self._body(prompt, sampling, params) | {"stream": True}
        async with self._session.post(self._url + "/v1/completions", json=body) as answer:
            if answer.status != 200:
                await _checked(answer)
            async for line in answer.content:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if "error" in event:
                    raise EngineError(str(event["error"].get("message", event["error"])))
                for choice in event["choices"]:
                    yield Piece(tuple(choice.get("token_ids") or ()), _reason(choice))

    def _body(self, prompt: Sequence[int], sampling: Sampling, params: Mapping[str, Any] | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "model": self._name, "prompt": list(prompt), "max_tokens": sampling.max_tokens, "temperature": sampling.temperature,
            "top_p": sampling.top_p, "return_token_ids": True, "ignore_eos": True, "seed": sampling.seed,
            "stop_token_ids": list(sampling.stop_tokens),
        }  # fmt: skip
        if sampling.top_k:
            found["top_k"] = sampling.top_k
        if params is not None:
            found["kv_transfer_params"] = dict(params)
        return found


async def _checked(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    text = await answer.text()
    if answer.status != 200:
        raise EngineError(f"{answer.status} {text[:300]}")
    found: dict[str, Any] = json.loads(text)
    return found


def _reason(choice: Mapping[str, Any]) -> Reason | None:
    given = choice.get("finish_reason")
    if given is None:
        return None
    if given not in REASONS:
        raise EngineError(f"the instance ended the answer: {given}")
    return REASONS[given]
