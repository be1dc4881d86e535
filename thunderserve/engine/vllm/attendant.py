"""Looks after one vLLM instance: a worker in the eyes of the coordinator, a client in those of vLLM.

So everything that the coordinator does for our own workers holds for vLLM's instances: routing by the plan's flows, records,
requests that are run again when an instance dies, cancels, flips. Every instance can serve either phase, so a flip is a matter
of routing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import aiohttp

from thunderserve.engine.launch.tree import Tree
from thunderserve.engine.messages import (
    VERSION,
    Beat,
    Cancel,
    Emitted,
    Failed,
    Handed,
    Hello,
    Message,
    Reason,
    Stop,
    Submit,
    Target,
    Token,
    decode,
    encode,
)
from thunderserve.engine.vllm import figures
from thunderserve.engine.vllm.exchange import EngineError, Exchange
from thunderserve.engine.vllm.handover import Door, hand_over
from thunderserve.engine.vllm.options import AttendantOptions
from thunderserve.engine.vllm.remote import PREFILL

log = logging.getLogger(__name__)
BEAT_S = 1.0
LOOK_S = 0.5
LINE_BYTES = 64 << 20
TROUBLE = (OSError, aiohttp.ClientError, EngineError, TimeoutError, ValueError, KeyError)


class Attendant:
    """See the module.

    Args:
        options: what it looks after.
        session: of HTTP, without a limit of time.
    """

    def __init__(self, options: AttendantOptions, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._exchange = Exchange(session, options.url, options.name)
        self._tree = Tree(options.command, options.environment) if options.command else None
        self._door = Door(self._taken)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._blocks = 0

    async def run(self) -> None:
        """Start the instance, wait until it is ready, serve until the coordinator says stop or goes, end the instance."""
        began_s = time.monotonic()
        try:
            if self._tree is not None:
                await self._tree.start()
            await self._ready()
            await self._serve(time.monotonic() - began_s)
        finally:
            for task in list(self._tasks.values()):
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await self._door.close()
            if self._tree is not None:
                await self._tree.stop()

    # beginning

    async def _ready(self) -> None:
        """Until the instance answers. The launcher's patience ends this process if it never does."""
        while True:
            if self._tree is not None and self._tree.code is not None:
                raise SystemExit(f"vLLM ended with {self._tree.code} before it was ready; see above")
            try:
                await self._exchange.get("/health")
                return
            except TROUBLE:
                await asyncio.sleep(LOOK_S)

    async def _serve(self, load_s: float) -> None:
        host, port = await self._door.open(self._options.host)
        hello = await self._hello(host, port, load_s)
        reader, self._writer = await asyncio.open_connection(*self._options.coordinator, limit=LINE_BYTES)
        self._say(hello)
        works: list[Coroutine[Any, Any, None]] = [self._listen(reader), self._beat()]
        if self._tree is not None:
            works.append(self._outlive(self._tree))
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writer.transport.abort()

    async def _hello(self, host: str, port: int, load_s: float) -> Hello:
        found = figures.read(await self._exchange.get("/metrics"))
        self._blocks = int(found["num_gpu_blocks"])
        context = await self._exchange.max_context()
        pid = self._tree.pid if self._tree is not None else os.getpid()
        return Hello(
            VERSION,
            self._options.replica,
            pid,
            host,
            port,
            self._blocks,
            int(found["block_size"]),
            context,
            "vllm",
            load_s,
        )

    # while it runs

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = decode(line)
            if isinstance(message, Stop):
                return
            if isinstance(message, Submit):
                self._begin(message.id, self._submitted(message))
            elif isinstance(message, Cancel) and (task := self._tasks.get(message.id)) is not None:
                task.cancel()

    async def _outlive(self, tree: Tree) -> None:
        code = await tree.ended()
        raise SystemExit(f"vLLM has ended with {code}")

    async def _beat(self) -> None:
        """It lives as long as its HTTP server answers."""
        while True:
            try:
                found = figures.read(await self._exchange.get("/metrics"))
            except TROUBLE as error:
                log.warning("no figures: %s", error)
            else:
                self._say(self._beat_of(found))
            await asyncio.sleep(BEAT_S)

    def _beat_of(self, found: figures.Figures) -> Beat:
        def of(name: str) -> int:
            return int(found.get(f"vllm:{name}", 0.0))

        used = round(found.get("vllm:kv_cache_usage_perc", 0.0) * self._blocks)
        return Beat(
            time.time(), of("num_requests_waiting"), of("num_requests_running"), used, self._blocks, 0,
            int(found.get(figures.COMPUTED, 0.0)), of("generation_tokens_total"), int(found.get(figures.CACHED, 0.0)),
            of("num_preemptions_total"), 0.0, 0, 0, 0,
        )  # fmt: skip

    def _say(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    # requests

    def _begin(self, number: int, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[number] = task

        def over(_: asyncio.Task[None]) -> None:
            if self._tasks.get(number) is task:
                del self._tasks[number]

        task.add_done_callback(over)
        return task

    async def _submitted(self, submit: Submit) -> None:
        try:
            if submit.decode_at is None:
                await self._decoded(submit, None)
            else:
                await self._prefilled(submit, submit.decode_at)
        except TROUBLE as error:
            self._say(Failed(submit.id, f"{type(error).__name__}: {error}", again=True))

    async def _prefilled(self, submit: Submit, target: Target) -> None:
        """The first phase here, the second where the flow leads."""
        began_s = time.time()
        found = await self._exchange.prefill((*submit.prompt, *submit.emitted), submit.sampling, self._params(target))
        place = len(submit.emitted)
        last = place + 1 >= submit.sampling.max_tokens
        reason: Reason | None = "stop" if found.token in submit.sampling.stop_tokens else "length" if last else None
        start_s = time.time()
        self._say(Emitted(start_s, (Token(submit.id, place, found.token, reason, began_s),)))
        if reason is not None:
            return
        if found.params is None and self._options.connector != "example":
            raise EngineError("the prefill instance has kept no keys and values: it was started without a connector")
        rest = submit._replace(emitted=(*submit.emitted, found.token), decode_at=None)
        await hand_over(target.host, target.port, rest, found.params or {})
        self._say(Handed(submit.id, 0, start_s, time.time()))

    async def _taken(self, submit: Submit, params: dict[str, Any], begun: Callable[[], None]) -> None:
        """Another instance has prefilled it. See ``handover.Taken``."""
        state = {"begun": False}

        def once() -> None:
            if not state["begun"]:
                state["begun"] = True
                begun()

        try:
            await self._begin(submit.id, self._decoded(submit, params, once))
        except TROUBLE as error:
            if not state["begun"]:
                raise
            self._say(Failed(submit.id, f"{type(error).__name__}: {error}", again=True))

    async def _decoded(
        self, submit: Submit, params: dict[str, Any] | None, begun: Callable[[], None] = lambda: None
    ) -> None:
        """All tokens that are still to come."""
        place, began_s = len(submit.emitted), time.time()
        told, skip = self._told(submit, params)
        left = submit.sampling._replace(max_tokens=submit.sampling.max_tokens - place + skip)
        async with aclosing(self._exchange.stream(told, left, params)) as pieces:
            async for tokens, reason in pieces:
                at_s = time.time()
                begun()
                fresh, skip = tokens[skip:], max(0, skip - len(tokens))
                said = [Token(submit.id, place + number, token) for number, token in enumerate(fresh)]
                place += len(fresh)
                if said:
                    first = began_s if params is None else None
                    said[0] = said[0]._replace(prefill_start_s=first)
                    said[-1] = said[-1]._replace(reason=reason)
                    self._say(Emitted(at_s, tuple(said)))
                if reason is not None:
                    return
        raise EngineError("the answer ended without a reason")

    def _told(self, submit: Submit, params: dict[str, Any] | None) -> tuple[tuple[int, ...], int]:
        """The prompt that the instance is given, and how many of its tokens the client has already.

        vLLM's connector over files finds a prompt by its tokens, so it has to be the same on both sides; the first token is then
        computed again.
        """
        whole = (*submit.prompt, *submit.emitted)
        return (whole[:-1], 1) if params is not None and self._options.connector == "example" else (whole, 0)

    def _params(self, target: Target) -> dict[str, Any] | None:
        if self._options.connector == "example":
            return None
        link = [target.bytes_per_s, target.latency_s]
        finite = link[0] > 0 and not math.isinf(link[0])
        own = {"codec": target.codec, "group_size": target.group_size} | ({"link": link} if finite or link[1] else {})
        return PREFILL | (own if self._options.connector == "thunderserve" else {})
