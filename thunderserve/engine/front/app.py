"""The HTTP application: routes, streams, disconnects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web

from thunderserve.engine.front.asked import Asked, Kind, read
from thunderserve.engine.front.choice import Piece, choices
from thunderserve.engine.front.contract import Engine, TooLong, Unavailable
from thunderserve.engine.front.merge import merged
from thunderserve.engine.front.meters import CONTENT_TYPE, Meters, Stopwatch
from thunderserve.engine.front.refused import Refused
from thunderserve.engine.front.shapes import Letter, model_list
from thunderserve.engine.front.words import Words

LOG = logging.getLogger(__name__)
MOST_BYTES = 64 << 20
"""Of a body: a prompt of a million token ids has 7 MB."""
POLL_S = 0.25
"""How often a connection is looked at while its client waits."""
GONE = 499
"""Of a client that has left, in the counts of requests; nobody reads it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(engine: Engine, tokenizer: Any, stop_tokens: Sequence[int] | None = None) -> web.Application:
    """The application that serves ``engine``.

    Args:
        engine: gives tokens.
        tokenizer: of its model, as transformers loads it.
        stop_tokens: that end an answer; None: the tokenizer's end token.
    """
    ends = (tokenizer.eos_token_id,) if stop_tokens is None else tuple(stop_tokens)
    front = _Front(engine, Words(tokenizer), tuple(end for end in ends if end is not None))
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[front.answered])
    app.router.add_post("/v1/completions", front.completions)
    app.router.add_post("/v1/chat/completions", front.chat)
    app.router.add_get("/v1/models", front.models)
    app.router.add_get("/health", front.health)
    app.router.add_get("/metrics", front.metrics)
    app.cleanup_ctx.append(front.life)
    return app


class _Front:
    def __init__(self, engine: Engine, words: Words, ends: tuple[int, ...]) -> None:
        self._engine, self._words, self._ends = engine, words, ends
        self._meters, self._created_s = Meters(engine), int(time.time())

    async def life(self, _: web.Application) -> AsyncIterator[None]:
        yield
        self._words.close()

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await _while_there(request, self._generate("completion", request))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await _while_there(request, self._generate("chat", request))

    async def models(self, _: web.Request) -> web.Response:
        known = model_list(self._engine.model, self._engine.max_context, self._words.count, self._created_s)
        return web.json_response(known)

    async def health(self, _: web.Request) -> web.Response:
        state = self._engine.health()
        return web.json_response(dict(state), status=503 if state["status"] == "down" else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._meters.page(), headers={"Content-Type": CONTENT_TYPE})

    @web.middleware
    async def answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every end of a request in OpenAI's shape, and counted."""
        self._meters.in_flight.inc()
        status = GONE  # of a handler that is cancelled
        try:
            response = await _explained(request, handler)
            status = response.status
        finally:
            self._meters.in_flight.dec()
            resource = request.match_info.route.resource
            path = "other" if resource is None else resource.canonical
            self._meters.requests.labels(path, str(status)).inc()
        return response

    async def _generate(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        watch = Stopwatch(self._meters)
        try:
            body = await request.json()
        except ValueError as error:
            raise Refused(f"the body is not JSON: {error}") from error
        asked = await read(kind, body, self._engine, self._words)
        letter = Letter(asked, self._engine.model)
        pieces = _timed(merged(choices(asked, self._engine, self._words, self._ends)), watch, letter, asked)
        async with aclosing(pieces):
            if asked.wishes.stream:
                return await _stream(request, letter, pieces)
            async for _ in pieces:
                pass
        return web.json_response(letter.whole())


async def _timed(
    pieces: AsyncGenerator[Piece, None], watch: Stopwatch, letter: Letter, asked: Asked
) -> AsyncGenerator[Piece, None]:
    """The same pieces, taken in and timed."""
    async with aclosing(pieces):
        async for piece in pieces:
            letter.add(piece)
            watch.piece(piece)
            yield piece
    watch.ended(asked.prompt_tokens)


async def _stream(request: web.Request, letter: Letter, pieces: AsyncGenerator[Piece, None]) -> web.StreamResponse:
    first = await anext(pieces)  # what goes wrong before it is an answer with a status of its own
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(letter.chunk(first))
    try:
        async for piece in pieces:
            await response.write(letter.chunk(piece))
        await response.write(letter.last())
    except ConnectionError:
        raise
    except Exception as error:  # the status has been sent: an event is all that can be said
        await response.write(_refusal(error).event())
    await response.write_eof()
    return response


async def _while_there(request: web.Request, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """What ``work`` answers; it is cancelled when the client leaves before."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        return web.Response(status=GONE)
    except ConnectionError:
        return web.Response(status=GONE)
    finally:
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _gone(request: web.Request) -> None:
    """Returns when the connection has ended. aiohttp tells a handler only if its runner was asked to."""
    while (transport := request.transport) is not None and not transport.is_closing():
        await asyncio.sleep(POLL_S)


async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return Refused(f"{request.method} {request.path}: {error.reason}", status=error.status).response()
    except Exception as error:  # whatever it is, the client gets an answer
        return _refusal(error).response()


def _refusal(error: Exception) -> Refused:
    match error:
        case Refused():
            return error
        case Unavailable():
            return Refused(str(error), status=503)
        case TooLong():
            return Refused(str(error), code="context_length_exceeded")
    LOG.error("a request failed", exc_info=error)
    return Refused("the server failed at this request; its log says why", status=500)
