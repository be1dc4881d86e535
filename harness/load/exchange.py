"""One request over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp

from harness.load.asks import Ask
from harness.load.events import Cutter, Event, Malformed
from harness.load.outcome import Outcome

Clock = Callable[[], float]

HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream"}
SHOWN = 200
"""Characters of an error that are kept."""


def body_of(ask: Ask, model: str) -> bytes:
    """What is sent: greedy, streamed, of exactly so many tokens."""
    prompt = ask.prompt if isinstance(ask.prompt, str) else list(ask.prompt)
    return json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": ask.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }
    ).encode()


async def exchange(
    session: aiohttp.ClientSession, url: str, body: bytes, outcome: Outcome, clock: Clock, timeout_s: float
) -> None:
    """Send ``body`` and write into ``outcome`` what comes back, in words where it is not a whole answer. Never raises an error
    of the exchange."""
    outcome.sent_s, outcome.error = clock(), ""
    try:
        async with asyncio.timeout(timeout_s):
            await _talk(session, url, body, outcome, clock)
    except TimeoutError:
        outcome.error = f"no whole answer within {timeout_s:g} s"
    except asyncio.CancelledError:
        outcome.error = "interrupted"
        raise
    except Malformed as error:
        outcome.error = str(error)
    except (aiohttp.ClientError, OSError) as error:
        outcome.error = f"{type(error).__name__}: {error}"[:SHOWN]
    if outcome.error:
        outcome.finish_s = None


async def _talk(session: aiohttp.ClientSession, url: str, body: bytes, outcome: Outcome, clock: Clock) -> None:
    async with session.post(url, data=body, headers=HEADERS) as response:
        outcome.status = response.status
        if response.status != 200:
            outcome.error = f"HTTP {response.status}: {_message(await response.read())}"
            return
        cutter, ended, done = Cutter(), False, False
        async for data in response.content.iter_any():
            now_s = clock()
            for event in cutter.feed(data):
                _take(event, outcome, now_s)
                ended, done = ended or event.finished, done or event.done
                if outcome.error:
                    return
        outcome.error = _flaw(outcome, ended=ended, done=done)
        if outcome.token_s:
            outcome.finish_s = outcome.token_s[-1]


def _take(event: Event, outcome: Outcome, now_s: float) -> None:
    outcome.token_s.extend([now_s] * event.tokens)
    outcome.error = event.error[:SHOWN]
    if event.usage is not None:
        outcome.prompt_tokens, outcome.output_tokens = event.usage


def _flaw(outcome: Outcome, *, ended: bool, done: bool) -> str:
    if not outcome.token_s:
        return "an answer without a token"
    return "" if ended and done else "the stream ended before the answer did"


def _message(body: bytes) -> str:
    """The message of an error in OpenAI's shape, or the beginning of the body."""
    try:
        return str(json.loads(body)["error"]["message"])[:SHOWN]
    except (ValueError, TypeError, KeyError):
        return body.decode(errors="replace")[:SHOWN]
