"""The prefill side, one a rank: finished prompts wait here in vLLM's own blocks until another instance has fetched them.

Nothing is copied before it is asked for. Then one thread reads layer after layer out of the blocks, another encodes, two more
send (``thunderserve.engine.transfer``): reading, encoding, wire and decoding overlap.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from thunderserve.engine.transfer.events import Confirmed, Event, Failed
from thunderserve.engine.transfer.link import Link
from thunderserve.engine.transfer.outgoing import Outgoing
from thunderserve.engine.transfer.sender import Sender
from thunderserve.engine.vllm import device as devices
from thunderserve.engine.vllm.asks import Ask, Desk, RefusedError
from thunderserve.engine.vllm.layout import Layout
from thunderserve.engine.vllm.remote import Way
from thunderserve.engine.vllm.settings import Settings
from thunderserve.engine.vllm.shard import Kind, Rank, Shard
from thunderserve.spec.kv import CODECS, KvCodec

log = logging.getLogger(__name__)
EARLY_S = 20.0
"""A question may come this long before vLLM has told this rank that the request is finished: a whole step, of many prompts."""
PAUSE_S = 0.002


@dataclass
class Held:
    """A finished prompt."""

    request: str
    blocks: tuple[int, ...]
    tokens: int
    until_s: float
    transfers: set[int] = field(default_factory=set)
    """Asked for."""
    over: set[int] = field(default_factory=set)
    """Of these, those that have ended, whichever way."""
    readers: int = 1

    @property
    def done(self) -> bool:
        """Whether everybody has had an answer."""
        return len(self.over) >= self.readers


class Source:
    """Answers questions and sends.

    Args:
        settings: of the instance.
        kind, shard: what there is, and what of it this rank has.
        layouts: of its layers, in order.
        device: of the cache.
    """

    def __init__(
        self, settings: Settings, kind: Kind, shard: Shard, layouts: Sequence[Layout], device: torch.device
    ) -> None:
        self._settings, self._kind, self._shard, self._layouts, self._device = settings, kind, shard, layouts, device
        self._changed = threading.Condition()
        self._held: dict[str, Held] = {}
        self._by_number: dict[int, Held] = {}
        self._work: queue.SimpleQueue[tuple[Held, Ask, Outgoing] | None] = queue.SimpleQueue()
        self._sender = Sender(limits=settings.limits, transport=settings.network, kernels=devices.kernels_for(device))
        self._desk = Desk(settings.host, self._answer)
        self._feeder = threading.Thread(target=self._feed_all, name="kv-feed", daemon=True)
        self._feeder.start()
        self.sent_bytes = 0
        self.expired = 0
        """Prompts that nobody fetched in time."""

    @property
    def rank(self) -> Rank:
        """Where others ask."""
        return Rank(self._settings.host, self._desk.port, self._shard)

    @property
    def live(self) -> int:
        """Prompts that wait or are being sent."""
        return len(self._held)

    def hold(self, request: str, blocks: Sequence[int], tokens: int) -> None:
        """Its prompt is finished; the blocks stay until ``poll`` names it."""
        with self._changed:
            until_s = time.monotonic() + self._settings.lease_s
            self._held[request] = Held(request, tuple(blocks), tokens, until_s)
            self._changed.notify_all()

    def poll(self, wait_s: float = 0.0) -> set[str]:
        """Requests whose blocks are needed no more: fetched, or given up. Waits up to ``wait_s`` for one."""
        if wait_s and self._held and (event := self._sender.events.get(wait_s)) is not None:
            self._heard(event)
        for event in self._sender.events.poll():
            self._heard(event)
        now_s = time.monotonic()
        with self._changed:
            for held in self._held.values():
                if not held.done and held.transfers <= held.over and now_s > held.until_s:
                    log.warning(
                        "nobody has fetched %s within %g s: its blocks are freed", held.request, self._settings.lease_s
                    )
                    self.expired += 1
                    held.readers = 0
            found = {request for request, held in self._held.items() if held.done}
            for request in found:
                del self._held[request]
        return found

    def close(self) -> None:
        """End all threads."""
        self._desk.close()
        self._work.put(None)
        self._sender.close()
        self._feeder.join()

    def _heard(self, event: Event) -> None:
        if isinstance(event, Confirmed):
            self.sent_bytes += event.bytes
        elif isinstance(event, Failed):
            log.warning("a transfer has failed: %s", event.reason)
        with self._changed:
            self._by_number.pop(event.id).over.add(event.id)

    def _answer(self, ask: Ask) -> None:
        """Called by the desk's threads."""
        if words := self._kind.differs(ask.kind):
            raise RefusedError(f"another model, or another type of cache: {words}")
        if self._shard.common(ask.part) != ask.part:
            raise RefusedError(f"this rank has {self._shard}, not {ask.part}")
        with self._changed:
            self._changed.wait_for(lambda: ask.request in self._held, EARLY_S)
            held = self._held.get(ask.request)
            if held is None:
                raise RefusedError(
                    f"{ask.request} is not here: it was never finished, or nobody came within {self._settings.lease_s:g} s"
                )
            if not 0 <= ask.first <= ask.tokens <= held.tokens:
                raise RefusedError(f"tokens {ask.first} to {ask.tokens} of the {held.tokens} of {ask.request}")
            if ask.transfer in held.transfers:
                return  # asked again because the answer was lost
            held.transfers.add(ask.transfer)
            held.readers = ask.readers
            if ask.first == ask.tokens:
                held.over.add(ask.transfer)
                return
            self._start(held, ask)

    def _start(self, held: Held, ask: Ask) -> None:
        first, last = ask.part.layers
        try:
            outgoing = self._sender.start(
                ask.transfer, ask.address, layers=last - first, tokens=ask.tokens, codec=self._codec(ask.way),
                link=self._link(ask.way),
            )  # fmt: skip
        except ValueError as error:
            held.over.add(ask.transfer)
            raise RefusedError(str(error)) from error
        self._by_number[ask.transfer] = held
        self._work.put((held, ask, outgoing))

    def _codec(self, way: Way) -> KvCodec | str:
        name = way.codec or self._settings.codec
        size = way.group_size or self._settings.group_size
        if not size or name not in CODECS or not CODECS[name].group_size:
            return name
        return CODECS[name].model_copy(update={"group_size": size})

    def _link(self, way: Way) -> Link:
        if way.bytes_per_s or way.latency_s:
            return Link(way.bytes_per_s or None, way.latency_s)
        return self._settings.link

    # the feeding thread

    def _feed_all(self) -> None:
        devices.enter(self._device)
        while (work := self._work.get()) is not None:
            held, ask, outgoing = work
            try:
                self._feed(held, ask, outgoing)
            except Exception as error:  # whatever it is, the others must be fed
                log.exception("%s cannot be sent", held.request)
                outgoing.abort(str(error))

    def _feed(self, held: Held, ask: Ask, outgoing: Outgoing) -> None:
        low, high = (head - self._shard.heads[0] for head in ask.part.heads)
        for layer in range(*ask.part.layers):
            k, v = self._layouts[layer - self._shard.layers[0]].read(held.blocks, ask.first, ask.tokens)
            devices.settle(self._device)
            self._wait_for_room(2 * k.nbytes, outgoing)
            if outgoing.ended:
                return
            outgoing.put(layer - ask.part.layers[0], ask.first, k[:, low:high], v[:, low:high])
        if not outgoing.ended:
            outgoing.close()

    def _wait_for_room(self, size: int, outgoing: Outgoing) -> None:
        most = self._settings.limits.most_bytes
        while self._sender.held_bytes and self._sender.held_bytes + size > most and not outgoing.ended:
            time.sleep(PAUSE_S)
