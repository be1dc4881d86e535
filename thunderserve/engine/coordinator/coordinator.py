"""The engine as the front sees it: requests in, tokens out, whatever becomes of the workers meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any

from thunderserve.engine.coordinator.dispatch import Dispatch, Way
from thunderserve.engine.coordinator.gauges import Sample, health, samples
from thunderserve.engine.coordinator.history import History, Outcome, Record
from thunderserve.engine.coordinator.listener import Listener
from thunderserve.engine.coordinator.peer import Peer
from thunderserve.engine.coordinator.request import Request
from thunderserve.engine.coordinator.routing import Need, Routing
from thunderserve.engine.coordinator.settings import Settings
from thunderserve.engine.front.contract import TooLong, Unavailable
from thunderserve.engine.messages import Message, Role, Sampling, Stop, Token
from thunderserve.spec.plan import Flow
from thunderserve.spec.plan import Router as RouterName

log = logging.getLogger(__name__)
LOOKS = 10
"""In the time that a worker may be silent."""


class Coordinator:
    """An ``Engine`` over the workers of a plan. All of it runs in one event loop.

    Args:
        model: its name, as clients give it.
        roles: of each replica, as its worker was started.
        flows, router: of the plan.
        way: what the keys and values of a flow travel over; nothing: the network as it is.
        settings: how patient it is.
    """

    def __init__(
        self,
        model: str,
        roles: Sequence[Role],
        flows: Sequence[Flow],
        *,
        router: RouterName = "flows",
        way: Callable[[int, int], Way] = lambda _prefill, _decode: Way(),
        settings: Settings | None = None,
    ) -> None:
        self.model = model
        self.max_context = 0
        """Tokens of prompt and answer together, at most; 0 before a worker was there."""
        self.settings = settings or Settings()
        self.history = History(self.settings.kept)
        self.routing = Routing(roles, flows, router)
        self._numbers = itertools.count()
        self._dispatch = Dispatch(self.routing, self.history, self.settings, way)
        self._listener = Listener(self, len(roles))
        self._watch: asyncio.Task[None] | None = None

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen for workers, and say where. Raises OSError when the address is taken."""
        address = await self._listener.open(host, port)
        self._watch = asyncio.create_task(self._watch_silence())
        return address

    async def close(self) -> None:
        """Tell all workers to stop, end what is being served (``Unavailable``), and hang up."""
        self._dispatch.shut()
        for peer in self.peers:
            peer.say(Stop())
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait((self._watch,))
        await self._listener.close()

    async def generate(
        self, prompt: Sequence[int], sampling: Sampling, *, number: int | None = None
    ) -> AsyncGenerator[Token, None]:
        """See ``Engine``. A worker's death is a pause, not an error: others go on where it stopped."""
        need = Need(len(prompt), sampling.max_tokens)
        record = Record(time.time(), need.prompt_tokens, number)
        request = Request(next(self._numbers), tuple(prompt), sampling, record)
        self.history.begin(record)
        outcome: Outcome = "cancelled"
        try:
            self._check(need)
            self._dispatch.begin(request)
            while outcome != "finished":
                told = await request.outbox.get()
                if isinstance(told, Exception):
                    raise told
                if told.reason is not None:
                    outcome = "finished"
                yield told
        except TooLong:
            outcome = "too_long"
            raise
        except Unavailable:
            outcome = "unavailable"
            raise
        finally:
            self._dispatch.leave(request)
            self.history.end(record, outcome)

    def flip(self, replica: int, role: Role) -> None:
        """A worker serves another phase from now on; what it has begun runs on. Then say ``reroute``.

        Raises:
            ValueError: there is no such replica, or it was started for fewer sequences.
        """
        if not 0 <= replica < len(self.routing.started):
            raise ValueError(f"there is no replica {replica} among {len(self.routing.started)}")
        # A worker lays its memory out for the sequences of its start.
        most, wanted = (min(one.max_sequences, one.max_batched_tokens) for one in (self.routing.started[replica], role))
        if wanted > most:
            raise ValueError(f"replica {replica} was started for {most} sequences, not {wanted}")
        log.info("replica %d: %s (%s)", replica, role.phase, role.policy)
        self.routing.flip(replica, role)
        if peer := self._dispatch.peers.get(replica):
            peer.say(role)
        self._dispatch.house_waiting()

    def reroute(self, flows: Sequence[Flow], router: RouterName | None = None) -> None:
        """Requests that come from now on go so. Raises ValueError for flows that do not fit the roles."""
        self.routing.reroute(flows, router)
        self.max_context = self.routing.max_context
        self._dispatch.house_waiting()

    def joined(self, peer: Peer) -> None:
        """See ``House``."""
        self._dispatch.joined(peer)
        self.max_context = self.routing.max_context

    def heard(self, peer: Peer, message: Message) -> None:
        """See ``House``."""
        self._dispatch.heard(peer, message)

    def left(self, peer: Peer, reason: str) -> None:
        """See ``House``."""
        self._dispatch.left(peer, reason)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Workers that are there, by their number."""
        return tuple(peer for _, peer in sorted(self._dispatch.peers.items()))

    @property
    def live(self) -> int:
        """Requests that have not ended."""
        return len(self._dispatch.requests)

    @property
    def waiting(self) -> int:
        """Requests for which there is no worker now."""
        return len(self._dispatch.waiting)

    def health(self) -> Mapping[str, Any]:
        """See ``Engine``. ``ok``: all workers are there; ``degraded``: enough to serve; ``down``: not even that."""
        return health(self.routing, self._dispatch.peers)

    def metrics(self) -> Iterable[Sample]:
        """See ``Engine``."""
        return samples(self.routing, self._dispatch.peers, self.history, self.live, self.waiting)

    def _check(self, need: Need) -> None:
        if need.prompt_tokens < 1 or need.output_tokens < 1:
            raise TooLong(
                f"a request has a token and wants one at least, not {need.prompt_tokens} and {need.output_tokens}"
            )
        if not self.routing.possible(need):
            raise TooLong(
                f"{need.prompt_tokens} tokens and {need.output_tokens} more fit into no worker "
                f"(the context is {self.max_context} tokens)"
            )

    async def _watch_silence(self) -> None:
        """Silence is counted in looks, not by the clock: while this loop is held up itself, nobody is suspected."""
        while True:
            await asyncio.sleep(self.settings.silence_s / LOOKS)
            for peer in self.peers:
                peer.silent_looks += 1
                if peer.silent_looks > LOOKS:
                    self._dispatch.left(peer, f"it has said nothing for {self.settings.silence_s:g} s")
