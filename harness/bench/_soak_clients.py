"""Clients of a soak: most read their answer to its end, some leave in the middle, some at once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Literal

import aiohttp
import numpy as np

Kind = Literal["whole", "known", "leaves", "at once"]
SHARES: dict[Kind, float] = {"whole": 0.6, "known": 0.2, "leaves": 0.15, "at once": 0.05}
"""``known``: one of a few prompts whose undisturbed answers were taken down before."""
KNOWN = 8
VOCABULARY = 40000


@dataclass
class Visit:
    """One request and what became of it, as its client saw it."""

    number: int
    kind: Kind
    prompt: tuple[int, ...]
    tokens: int
    stays: int
    """Tokens after which the client leaves; 0: at once."""
    text: str = ""
    told: int = 0
    ended: str = ""
    """``finished``, ``left``, ``refused 503``, or an error in words; nothing if it was lost."""


def visits(rng: np.random.Generator) -> Visit:
    """The next request; numbers are given by the caller."""
    kinds = list(SHARES)
    kind: Kind = kinds[int(rng.choice(len(kinds), p=list(SHARES.values())))]
    seed = int(rng.integers(KNOWN)) if kind == "known" else int(rng.integers(1 << 40))
    prompt, tokens = _drawn(seed)
    stays = {"leaves": int(rng.integers(1, tokens)), "at once": 0}.get(kind, tokens)
    return Visit(-1, kind, prompt, tokens, stays)


def known() -> list[Visit]:
    """The prompts whose answers are to be taken down undisturbed."""
    drawn = [_drawn(seed) for seed in range(KNOWN)]
    return [Visit(-1, "whole", prompt, tokens, tokens) for prompt, tokens in drawn]


def _drawn(seed: int) -> tuple[tuple[int, ...], int]:
    """A prompt, and how many tokens are to follow it."""
    rng = np.random.default_rng(seed)
    prompt = tuple(rng.integers(100, VOCABULARY, int(rng.integers(10, 300))).tolist())
    return prompt, int(rng.integers(4, 64))


async def pay(session: aiohttp.ClientSession, url: str, model: str, visit: Visit) -> None:
    """Make a visit; what happened is written into it. Never raises an error of the exchange."""
    body = {
        "model": model, "prompt": list(visit.prompt), "max_tokens": visit.tokens, "temperature": 0, "ignore_eos": True,
        "stream": True,
    }  # fmt: skip
    try:
        if visit.stays == 0:
            async with asyncio.timeout(0.02):
                await _read(session, url, body, visit)
        else:
            await _read(session, url, body, visit)
    except TimeoutError:
        visit.ended = "left"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        visit.ended = f"{type(error).__name__}: {error}"[:200]


async def _read(session: aiohttp.ClientSession, url: str, body: dict[str, object], visit: Visit) -> None:
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        if answer.status != 200:
            visit.ended = f"refused {answer.status}"
            return
        async for line in answer.content:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    visit.ended = f"error: {event['error'].get('message')}"
                    return
                choice = event["choices"][0]
                visit.text += choice["text"]
                visit.told += 1
                if choice["finish_reason"] is not None:
                    visit.ended = "finished"
                elif visit.kind == "leaves" and visit.told >= visit.stays:
                    visit.ended = "left"
                    return
