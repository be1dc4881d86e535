"""A coordinator with plain workers, and clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from plain_worker import PlainWorker

from thunderserve.engine.coordinator.coordinator import Coordinator
from thunderserve.engine.coordinator.settings import Settings
from thunderserve.engine.messages import Role, Sampling
from thunderserve.spec.kv import INT4
from thunderserve.spec.plan import Flow

BOTH = Role("both", "chunked", 64, 512)
PREFILL = Role("prefill", "saturation", 64, 512)
DECODE = Role("decode", "continuous", 64, 512)

TWO_ALIKE = ([BOTH, BOTH], [Flow(prefill=0, decode=0, share=0.5), Flow(prefill=1, decode=1, share=0.5)])
TWO_PHASES = (
    [PREFILL, DECODE, DECODE],
    [Flow(prefill=0, decode=1, share=0.5, codec=INT4), Flow(prefill=0, decode=2, share=0.5, codec=INT4)],
)
ONE = ([BOTH], [Flow(prefill=0, decode=0, share=1)])
PAIR = ([PREFILL, DECODE], [Flow(prefill=0, decode=1, share=1)])
LONG = Sampling(60, seed=11)
QUICK = Settings(silence_s=0.5, patience_s=0.4, again_s=0.01)


class Scene:
    """The workers can be replaced; ``ask`` is a client."""

    def __init__(self, coordinator: Coordinator, address: tuple[str, int]) -> None:
        self.coordinator, self.address = coordinator, address
        self.workers: dict[int, PlainWorker] = {}
        self.all: list[PlainWorker] = []

    async def start(self, replica: int, **options: Any) -> PlainWorker:
        worker = await PlainWorker(replica, **options).start(self.address)
        self.workers[replica] = worker
        self.all.append(worker)
        await self.until(lambda: any(peer.replica == replica and peer.alive for peer in self.coordinator.peers))
        return worker

    async def ask(self, prompt: Sequence[int], sampling: Sampling, number: int | None = None) -> list[int]:
        """The whole answer; its places are in order, and only its last token has a reason."""
        told = [token async for token in self.coordinator.generate(prompt, sampling, number=number)]
        assert [token.place for token in told] == list(range(len(told)))
        assert [token.reason is not None for token in told] == [False] * (len(told) - 1) + [True]
        assert len({token.id for token in told}) == 1
        return [token.token for token in told]

    async def until(self, true: Any, seconds: float = 5.0) -> None:
        """Wait for it."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.002)

    async def in_the_middle(self, replica: int, request: asyncio.Task[Any]) -> None:
        """Some tokens were told, and the worker is at it."""
        await self.until(lambda: self.workers[replica].tasks or request.done())
        await self.until(lambda: self.coordinator.history.told_tokens >= 5)
        assert not request.done()

    async def quiet(self) -> None:
        """Nothing is left of any request, here or at any worker."""
        await self.until(lambda: not any(worker.tasks for worker in self.all))
        await self.until(lambda: not any(peer.attempts for peer in self.coordinator.peers))
        assert self.coordinator.live == self.coordinator.waiting == 0
        for peer in self.coordinator.peers:
            assert self.coordinator.routing.pending(peer.replica) == (0, 0)


@asynccontextmanager
async def scene(
    roles: Sequence[Role], flows: Sequence[Flow], *, settings: Settings = QUICK, start: bool = True, **options: Any
) -> AsyncIterator[Scene]:
    """All workers have said hello, unless ``start`` is false."""
    coordinator = Coordinator("plain", roles, flows, settings=settings, **options)
    made = Scene(coordinator, await coordinator.open())
    try:
        if start:
            for replica in range(len(roles)):
                await made.start(replica)
        yield made
    finally:
        await coordinator.close()
        for worker in made.all:
            worker.die()
