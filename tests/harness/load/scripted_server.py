"""A real HTTP server whose answers are scripted by the number of tokens that are asked for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


def chunk(reason: str | None = None, text: str = "x") -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@dataclass
class Scripted:
    """Answers with as many tokens as asked for; or, where ``trouble`` has the number of tokens asked for, does that."""

    first_s: float = 0.0
    gap_s: float = 0.0
    trouble: Mapping[int, str] = field(default_factory=dict)
    usage: bool = True
    bodies: list[dict[str, Any]] = field(default_factory=list)
    came_s: list[float] = field(default_factory=list)
    """Arrivals, by ``time.perf_counter``."""
    at_once: int = 0
    most_at_once: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.came_s.append(time.perf_counter())
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        count = body["max_tokens"]
        trouble = self.trouble.get(count, "")
        if trouble == "busy":
            return web.json_response({"error": {"message": "no worker"}}, status=503)
        if trouble == "refused":
            return web.Response(text="go away", status=400)
        await asyncio.sleep(60 if trouble == "silent" else self.first_s)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for place in range(count):
            if place == 2 and trouble and not await self._trouble(trouble, request, response):
                return response
            await response.write(chunk("length" if place + 1 == count else None))
            await asyncio.sleep(self.gap_s)
        if self.usage:
            used = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count}
            await response.write(b"data: " + json.dumps({"choices": [], "usage": used}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _trouble(self, kind: str, request: web.Request, response: web.StreamResponse) -> bool:
        """Whether the answer goes on."""
        match kind:
            case "disconnect":
                assert request.transport is not None
                request.transport.abort()
            case "malformed":
                await response.write(b'data: {"choices": [{"te\n\n')
            case "error":
                await response.write(b'event: error\ndata: {"error": {"message": "workers are gone"}}\n\n')
            case "cut":
                pass
            case "odd":
                for piece in (b": a comment\n\nda", b"ta:", b'{"choices": []}\r', b"\n\r\nid: 7\n\n"):
                    await response.write(piece)
                    await asyncio.sleep(0.01)
                return True
        return False


async def models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "scripted", "max_model_len": 4096, "vocab_size": 100}]})


def application(scripted: Scripted) -> web.Application:
    app = web.Application()
    app.router.add_post("/v1/completions", scripted.answer)
    app.router.add_get("/v1/models", models)
    return app


@asynccontextmanager
async def running(scripted: Scripted) -> AsyncIterator[str]:
    """Its address."""
    app = application(scripted)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")
