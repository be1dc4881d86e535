"""The decode side, one a rank: fetches the keys and values of prompts into blocks that vLLM has kept for them.

One thread owns everything that is under way and is the only one to write into the cache, so that nothing is written after a load
was given up. vLLM's own thread starts loads and collects results; questions are put by a few threads of their own.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from thunderserve.engine.transfer.events import Arrived, Broken, Completed, Offered
from thunderserve.engine.transfer.receiver import Receiver
from thunderserve.engine.vllm import device as devices
from thunderserve.engine.vllm.asks import AT_ONCE, Ask, RefusedError, put
from thunderserve.engine.vllm.layout import Layout
from thunderserve.engine.vllm.remote import Remote
from thunderserve.engine.vllm.settings import Settings
from thunderserve.engine.vllm.shard import Kind, Rank, Shard, pieces, readers

log = logging.getLogger(__name__)
LOOK_S = 0.02


class Load(NamedTuple):
    """The tokens from ``first`` to ``tokens`` of a prompt are to come into ``blocks``; if these are equal, nothing is wanted."""

    request: str
    remote: Remote
    blocks: tuple[int, ...]
    first: int
    tokens: int
    shards: tuple[Shard, ...]
    """Of all ranks of this instance: they all ask."""


class Results(NamedTuple):
    """What has ended since the last look."""

    finished: set[str]
    """Loads that are over, the failed ones among them."""
    bad_blocks: set[int]
    """Of failed loads: what lies in them is not what should."""


@dataclass
class _Running:
    load: Load
    parts: dict[int, Shard]
    """By the number of their transfer, those that are not yet here."""
    moved_s: float = field(default_factory=time.monotonic)


class Sink:
    """Asks, receives and writes.

    Args:
        settings: of the instance.
        kind, shard: of the model, and of this rank.
        layouts: of its layers, in order.
        device: of the cache.
    """

    def __init__(
        self, settings: Settings, kind: Kind, shard: Shard, layouts: Sequence[Layout], device: torch.device
    ) -> None:
        self._settings, self._kind, self._shard, self._layouts, self._device = settings, kind, shard, layouts, device
        self._receiver = Receiver((settings.host, 0), limits=settings.limits, transport=settings.network, tensors=True)
        self._changed = threading.Condition()
        self._running: dict[str, _Running] = {}
        self._by_number: dict[int, _Running] = {}
        self._refused: deque[tuple[int, str]] = deque()
        self._finished: set[str] = set()
        self._bad: set[int] = set()
        self._closing = False
        self._asking = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kv-ask")
        self._thread = threading.Thread(target=self._run, name="kv-load", daemon=True)
        self._thread.start()
        self.received_bytes = self.received_tokens = self.failures = 0

    @property
    def live(self) -> int:
        """Loads that are under way."""
        return len(self._running)

    def start(self, load: Load) -> None:
        """Begin to fetch it, or tell the other side that it may forget it; ``poll`` names a fetch once, when it is over."""
        try:
            found = pieces(load.remote.ranks, self._shard)
            asks = [(load.remote.ranks[source], self._ask(load, source, part)) for source, part in found]
        except ValueError as error:
            self._end(load, str(error))
            return
        if load.first < load.tokens:
            with self._changed:
                running = _Running(load, {ask.transfer: ask.part for _, ask in asks})
                self._running[load.request] = running
                self._by_number.update(dict.fromkeys(running.parts, running))
        for rank, ask in asks:
            self._asking.submit(self._put, rank, ask)

    def poll(self, wait_s: float = 0.0) -> Results:
        """What is over; waits up to ``wait_s`` for something if nothing is."""
        with self._changed:
            if wait_s and self._running:
                self._changed.wait_for(lambda: self._finished, wait_s)
            found = Results(self._finished, self._bad)
            self._finished, self._bad = set(), set()
        return found

    def close(self) -> None:
        """End all threads."""
        self._closing = True
        self._asking.shutdown(cancel_futures=True)
        self._thread.join()
        self._receiver.close()

    def _ask(self, load: Load, source: int, part: Shard) -> Ask:
        remote = load.remote
        return Ask(
            remote.request, secrets.randbits(63), self._receiver.address, load.first, load.tokens, part, remote.way,
            readers(remote.ranks, load.shards, source), self._kind,
        )  # fmt: skip

    def _put(self, rank: Rank, ask: Ask) -> None:
        """Ask until there is an answer; a question that was answered already is answered again."""
        for attempt in range(self._settings.retries + 1):
            try:
                put(ask, rank.host, rank.port)
                return
            except RefusedError as error:
                reason = str(error)
                break
            except OSError as error:
                reason = f"{rank.host}:{rank.port}: {error or type(error).__name__}"
                time.sleep(min(0.05 * 2**attempt, 1.0))
        self._refused.append((ask.transfer, reason))

    # the loading thread

    def _run(self) -> None:
        devices.enter(self._device)
        while not self._closing:
            event = self._receiver.events.get(LOOK_S)
            try:
                if isinstance(event, Offered):
                    self._offered(event)
                elif isinstance(event, Arrived):
                    self._arrived(event)
                elif isinstance(event, Completed):
                    self._completed(event)
                elif isinstance(event, Broken):
                    self._lost(event.id, event.reason)
            except Exception as error:  # whatever it is, it ends this load and no other
                log.exception("a load failed")
                self._lost(event.id if event is not None else 0, repr(error))
            self._look()

    def _offered(self, event: Offered) -> None:
        if event.id in self._by_number:
            self._receiver.grant(event.id)
        else:
            self._receiver.refuse(event.id, "nobody waits for it any more")

    def _arrived(self, event: Arrived) -> None:
        if (running := self._by_number.get(event.id)) is None:
            return
        part = running.parts[event.id]
        running.moved_s = time.monotonic()
        self.received_tokens += len(event.k) if event.layer == 0 else 0
        layout = self._layouts[part.layers[0] + event.layer - self._shard.layers[0]]
        layout.write(running.load.blocks, event.first_token, event.k, event.v, part.heads[0] - self._shard.heads[0])

    def _completed(self, event: Completed) -> None:
        running = self._by_number.pop(event.id, None)
        if running is None:
            return
        devices.settle(self._device)
        if not self._receiver.confirm(event.id):
            self._by_number[event.id] = running
            self._lost(event.id, "it broke at its end")
            return
        self.received_bytes += event.bytes
        del running.parts[event.id]
        if not running.parts:
            self._end(running.load, "")

    def _lost(self, number: int, reason: str) -> None:
        """A part has failed, and with it the load."""
        running = self._by_number.get(number)
        if running is None:
            return
        for other in running.parts:
            self._by_number.pop(other, None)
            self._receiver.refuse(other, f"another part has failed: {reason}" if other != number else reason)
        devices.settle(self._device)
        self._end(running.load, reason)

    def _look(self) -> None:
        while self._refused:
            self._lost(*self._refused.popleft())
        now_s = time.monotonic()
        with self._changed:
            late = [one for one in self._running.values() if now_s - one.moved_s > self._settings.timeout_s]
        for running in late:
            self._lost(next(iter(running.parts)), f"nothing has come for {self._settings.timeout_s:g} s")

    def _end(self, load: Load, reason: str) -> None:
        with self._changed:
            self._running.pop(load.request, None)
            if load.first == load.tokens:
                return
            self._finished.add(load.request)
            if reason:
                log.warning("the keys and values of %s were not fetched: %s", load.request, reason)
                self.failures += 1
                block_tokens = self._layouts[0].block_tokens
                self._bad.update(load.blocks[load.first // block_tokens : -(-load.tokens // block_tokens)])
            self._changed.notify_all()
