"""The open loop: every request leaves at its time, whatever the server does with those before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import aiohttp

from harness.load.asks import Ask
from harness.load.exchange import body_of, exchange
from harness.load.outcome import LoadResult, Outcome
from thunderserve.spec.errors import SpecError

LOOK_EVERY_S = 0.25
NOT_SENT = "not sent: the run was interrupted"


class Glance(NamedTuple):
    """How far a run is."""

    time_s: float
    total: int
    sent: int
    ended: int
    failed: int
    tokens: int


Look = Callable[[Glance], None]


async def drive(
    url: str,
    model: str,
    requests: Sequence[Ask],
    *,
    warm_up: Sequence[Ask] = (),
    timeout_s: float = 600.0,
    stop: asyncio.Event | None = None,
    look: Look | None = None,
) -> LoadResult:
    """Replay ``requests`` against the server at ``url`` and wait until each has ended.

    Args:
        url: of the server, without ``/v1``.
        model: as the server calls it.
        requests: in order of arrival. Nothing is retried.
        warm_up: sent before, all at once, and not counted.
        timeout_s: for each request, from its sending to its last byte.
        stop: once set, nothing more is sent and what is in flight is cancelled.
        look: told how far it is, a few times a second.

    Raises:
        SpecError: a warm-up request was not answered.
    """
    address = f"{url.rstrip('/')}/v1/completions"
    bodies = [body_of(ask, model) for ask in requests]  # before the clock starts: a long prompt takes milliseconds
    connector = aiohttp.TCPConnector(limit=0)
    none = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)
    async with aiohttp.ClientSession(connector=connector, timeout=none) as session:
        stop = stop or asyncio.Event()
        warm = await _unless(stop, _warm(session, address, [body_of(ask, model) for ask in warm_up], timeout_s))
        run = _Run(session, address, tuple(requests), bodies, timeout_s)
        whole = warm and await run.to_its_end(stop, look)
    return LoadResult(tuple(requests), tuple(run.outcomes), run.started_s, interrupted=not whole)


async def _warm(session: aiohttp.ClientSession, address: str, bodies: Sequence[bytes], timeout_s: float) -> None:
    outcomes = [Outcome(0.0) for _ in bodies]
    pairs = zip(bodies, outcomes, strict=True)
    await asyncio.gather(*(exchange(session, address, body, one, time.perf_counter, timeout_s) for body, one in pairs))
    if wrong := next((one.error for one in outcomes if one.error), ""):
        raise SpecError(
            f"a warm-up request failed: {wrong}", value=address, remedy="see that the server runs, and its log"
        )


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether ``work`` ran to its end; it is cancelled as soon as ``stop`` is set."""
    doing, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            return False
        doing.result()
        return True
    finally:
        doing.cancel()
        stopped.cancel()
        await asyncio.gather(doing, stopped, return_exceptions=True)


class _Run:
    def __init__(
        self, session: aiohttp.ClientSession, address: str, asks: tuple[Ask, ...], bodies: list[bytes], timeout_s: float
    ) -> None:
        self._session, self._address, self._bodies, self._timeout_s = session, address, bodies, timeout_s
        self.outcomes = [Outcome(ask.arrival_s, error=NOT_SENT) for ask in asks]
        self._tasks: list[asyncio.Task[None]] = []
        self.started_s, self._zero_s = time.time(), time.perf_counter()

    def _clock(self) -> float:
        return time.perf_counter() - self._zero_s

    async def to_its_end(self, stop: asyncio.Event, look: Look | None) -> bool:
        watching = asyncio.create_task(self._watch(look)) if look else None
        try:
            return await _unless(stop, self._all())
        finally:
            others = [*self._tasks, *([watching] if watching else [])]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _all(self) -> None:
        for body, outcome in zip(self._bodies, self.outcomes, strict=True):
            wait_s = outcome.intended_s - self._clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            work = exchange(self._session, self._address, body, outcome, self._clock, self._timeout_s)
            self._tasks.append(asyncio.create_task(work))
        await asyncio.gather(*self._tasks)

    async def _watch(self, look: Look) -> None:
        while True:
            ended = [task for task in self._tasks if task.done()]
            failed = sum(bool(one.error) for one in self.outcomes if one.sent_s is not None)
            tokens = sum(len(outcome.token_s) for outcome in self.outcomes)
            look(Glance(self._clock(), len(self.outcomes), len(self._tasks), len(ended), failed, tokens))
            await asyncio.sleep(LOOK_EVERY_S)
