"""The side that has the keys and values."""

from __future__ import annotations

import threading
from collections.abc import Callable

from thunderserve.engine.transfer.desk import Desk
from thunderserve.engine.transfer.encoding import Encoding
from thunderserve.engine.transfer.events import Inbox
from thunderserve.engine.transfer.frames import Offer, warm_up_frames
from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.link import Bucket, Clock, Link, Monotonic
from thunderserve.engine.transfer.outgoing import Outgoing
from thunderserve.engine.transfer.road import Road
from thunderserve.engine.transfer.transport import Address, Tcp, Transport
from thunderserve.kv.kernels.contract import Kernels
from thunderserve.spec.kv import KvCodec

MOST_TOKENS = 1 << 31


class Sender:
    """Sends the KV of many requests to many receivers, from threads of its own.

    Its ``events`` are ``Confirmed`` and ``Failed``; every transfer that was started ends in exactly one of them. One thread
    encodes, two carry each address and link, one watches the leases.

    Args:
        limits: see ``Limits``.
        transport: TCP unless given.
        connections: for each address and link; transfers are dealt out to them in turn.
        wake: called after every event, from any thread and under a lock: it may set a flag or write to a pipe, no more.
        kernels: makes the kernels that encode, those of the CPU unless given.
        clock: of the link and all limits.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        transport: Transport | None = None,
        connections: int = 1,
        wake: Callable[[], None] | None = None,
        kernels: Callable[[], Kernels] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError(f"a sender has one connection to an address or more, not {connections}")
        limits = (limits or Limits()).checked()
        warm_up_frames()
        lock = threading.RLock()
        self.events = Inbox(lock, limits.most_bytes, wake)
        self._desk = Desk(limits, clock or Monotonic(), lock, self.events, Encoding(kernels))
        self._transport = transport or Tcp()
        self._connections = connections
        self._roads: dict[tuple[Address, Link, int], Road] = {}
        self._buckets: dict[tuple[Address | None, Link], Bucket] = {}
        self._started = 0
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="kv-send-watch", daemon=True)
        self._watcher.start()

    @property
    def held_bytes(self) -> int:
        """Keys, values and packets that no receiver has yet. At ``Limits.most_bytes`` transfers fail: start fewer before."""
        return self._desk.held_bytes

    @property
    def live(self) -> int:
        """Transfers that have not ended."""
        return len(self._desk.live)

    def start(
        self,
        transfer_id: int,
        address: Address,
        *,
        layers: int,
        tokens: int,
        codec: KvCodec | str = "raw",
        link: Link | None = None,
        note: bytes = b"",
    ) -> Outgoing:
        """Offer the KV of ``tokens`` tokens to the receiver at ``address``; at once back.

        Start when prefill starts: the offer, the grant and the first layers then travel while the rest is computed.

        Args:
            transfer_id: names it in events on both sides; free again when it has ended.
            address: of a ``Receiver``.
            layers: of the model, or of the stage that sends for itself.
            tokens: that every layer will reach.
            codec: by its name, or as a plan has it with a group size.
            link: what the network is made to look like; as it is, unless given.
            note: handed to the receiver with the offer; up to 512 KiB.

        Raises:
            ValueError: the id is under way, the sender is closed, or a number cannot be.
        """
        link = (link or Link()).checked()
        name = codec if isinstance(codec, str) else codec.name
        if layers < 1 or not 0 < tokens < MOST_TOKENS or not 0 < len(name.encode()) <= 16 or len(note) > 1 << 19:
            raise ValueError(
                f"cannot offer {layers} layers of {tokens} tokens as {name!r} with {len(note)} bytes of note"
            )
        if not 0 <= transfer_id < 1 << 64:
            raise ValueError(f"a transfer's number has 64 bits: {transfer_id}")
        with self._desk.lock:
            if transfer_id in self._desk.live or self._closing.is_set():
                raise ValueError(
                    f"transfer {transfer_id} cannot start: {'closed' if self._closing.is_set() else 'it runs'}"
                )
            outgoing = Outgoing(Offer(transfer_id, tokens, layers, name, note), codec, self._desk)
            self._desk.live[transfer_id] = outgoing
            self._road(address, link).add(outgoing)
        return outgoing

    def close(self) -> None:
        """Fail what is under way, and end all threads."""
        with self._desk.lock:
            self._closing.set()
            roads = list(self._roads.values())
        for road in roads:
            road.close()
        self._watcher.join()
        self._desk.encoding.close()

    def _road(self, address: Address, link: Link) -> Road:
        address = (address[0], address[1])
        bucket_key = (None if link.name else address, link)
        if bucket_key not in self._buckets:
            self._buckets[bucket_key] = Bucket(link)
        key = (address, link, self._started % self._connections)
        self._started += 1
        if key not in self._roads or self._roads[key].retired:
            self._roads[key] = Road(address, self._buckets[bucket_key], self._desk, self._transport)
        return self._roads[key]

    def _watch(self) -> None:
        while not self._closing.wait(self._desk.limits.beat_s / 2):
            with self._desk.lock:
                now_s = self._desk.clock.now()
                self._roads = {key: road for key, road in self._roads.items() if not road.retired}
                for road in self._roads.values():
                    road.look(now_s)
