"""The side that needs the keys and values."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from thunderserve.engine.transfer.events import Arrived, Broken, Completed, Inbox, Offered
from thunderserve.engine.transfer.frames import Frame, Kind, read_offer, warm_up_frames
from thunderserve.engine.transfer.incoming import Incoming, MismatchError, Verdicts, decoded_bytes
from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.peer import Peer, Room
from thunderserve.engine.transfer.transport import Address, Tcp, Transport
from thunderserve.kv.wire.catalogue import names
from thunderserve.kv.wire.header import PacketError, read_header
from thunderserve.kv.wire.packet import Decoder, Layer


class Task(NamedTuple):
    """A packet to decode."""

    peer: Peer
    frame: Frame
    room: Room


class Receiver:
    """Receives the KV of many requests from many senders, in threads of its own.

    Its ``events``: ``Offered``, to answer with ``grant`` or ``refuse``; ``Arrived`` for each layer of each chunk;
    ``Completed``, to answer with ``confirm`` (or ``refuse``); ``Broken``. A transfer ends in exactly one of ``confirm`` (that
    returned True), ``refuse`` (likewise) and ``Broken``; nothing of it is met in the events after that.

    Args:
        address: to listen on; port 0 takes a free one, ``self.address`` has it.
        limits: see ``Limits``.
        transport: TCP unless given.
        tensors: hand out torch tensors rather than arrays (where bfloat16 is int16 bits).
        wake: called after every event, from any thread and under a lock: it may set a flag or write to a pipe, no more.
    """

    def __init__(
        self,
        address: Address = ("127.0.0.1", 0),
        *,
        limits: Limits | None = None,
        transport: Transport | None = None,
        tensors: bool = False,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._limits = (limits or Limits()).checked()
        warm_up_frames()
        self._listener = (transport or Tcp()).listen(address, silence_s=self._limits.silence_s)
        self.address = self._listener.address
        self._lock = threading.RLock()
        self.events = Inbox(self._lock, self._limits.most_bytes, wake)
        self._tensors = tensors
        self._by_token: dict[int, Incoming] = {}
        self._by_id: dict[int, Incoming] = {}
        self._verdicts = Verdicts()
        self._peers: set[Peer] = set()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        works = {"kv-listen": self._accept, "kv-decode": self._decode_all, "kv-receive-watch": self._watch}
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in works.items()]
        for thread in self._threads:
            thread.start()

    # what the worker calls

    @property
    def live(self) -> int:
        """Transfers that have not ended."""
        return len(self._by_id)

    def grant(self, transfer_id: int) -> bool:
        """There is room for it: the sender may send. False when it is over."""
        with self._lock:
            incoming = self._by_id.get(transfer_id)
            if incoming is not None and not incoming.granted:
                incoming.granted = True
                incoming.say(Kind.GRANT)
            return incoming is not None

    def refuse(self, transfer_id: int, reason: str) -> bool:
        """Not now, or not any more: anywhere before ``confirm``. False when it is over."""
        with self._lock:
            incoming = self._by_id.get(transfer_id)
            if incoming is not None:
                self._end(incoming, Kind.GONE, reason)
            return incoming is not None

    def confirm(self, transfer_id: int) -> bool:
        """It will be used, and the sender may free its blocks. False when it is over: then it must not be used.

        Raises:
            ValueError: it has not been completed.
        """
        with self._lock:
            incoming = self._by_id.get(transfer_id)
            if incoming is None:
                return False
            if not incoming.completed:
                raise ValueError(f"transfer {transfer_id} is confirmed before it was completed")
            self._end(incoming, Kind.CONFIRM, "")
            return True

    def close(self) -> None:
        """Break what is under way, and end all threads."""
        with self._lock:
            for incoming in list(self._by_id.values()):
                self._break(incoming, "the receiver closed")
            self._closing.set()
            peers = list(self._peers)
            self.events.notify()
        self._listener.cut()
        self._tasks.put(None)
        for peer in peers:
            peer.cut()
            peer.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    # what connections call

    def wants(self, peer: Peer, token: int) -> bool:
        """See ``House``."""
        with self._lock:
            incoming = self._by_token.get(token)
            if incoming is None or incoming.voice is not peer:
                return False
            if not incoming.granted:
                self._break(incoming, "a packet came before the grant")
                return False
            incoming.start_s = incoming.start_s or time.monotonic()
            return True

    def take(self, peer: Peer, frame: Frame, room: Room) -> None:
        """See ``House``."""
        self._tasks.put(Task(peer, frame, room))

    def hear(self, peer: Peer, frame: Frame) -> None:
        """See ``House``."""
        with self._lock:
            incoming = self._by_token.get(frame.token)
            if incoming is None:
                self._hear_anew(peer, frame)
            elif frame.kind == Kind.OFFER:
                incoming.attach(peer, frame.number)
            elif frame.kind == Kind.CLOSE:
                incoming.close(frame)
                self._complete(incoming)
            elif frame.kind == Kind.ABORT:
                incoming.voice = peer
                self._break(incoming, frame.body.decode("utf-8", "replace"))

    def leave(self, peer: Peer) -> None:
        """See ``House``."""
        with self._lock:
            self._peers.discard(peer)
            for incoming in self._by_id.values():
                if incoming.voice is peer:
                    incoming.voice, incoming.detached_s = None, time.monotonic()

    # under the lock

    def _hear_anew(self, peer: Peer, frame: Frame) -> None:
        """Of a transfer that is not under way: it begins, or has ended."""
        verdict = self._verdicts.frame(frame.token)
        if verdict is not None:
            peer.say(verdict)
        elif frame.kind == Kind.OFFER:
            self._begin(peer, frame)
        else:
            self._verdicts.add(frame.token, Kind.GONE, b"the receiver does not know it")
            peer.say(self._verdicts.frame(frame.token) or b"")

    def _begin(self, peer: Peer, frame: Frame) -> None:
        offer = read_offer(frame.body)
        if offer.id in self._by_id:
            self._break(self._by_id[offer.id], "it was offered anew")
        incoming = Incoming(frame.token, offer, peer, frame.number)
        self._by_token[frame.token] = self._by_id[offer.id] = incoming
        if offer.codec not in names():
            self._end(incoming, Kind.GONE, f"the receiver has no codec {offer.codec!r}")
        elif self._closing.is_set():
            self._end(incoming, Kind.GONE, "the receiver closed")
        else:
            self.events.put(Offered(offer.id, offer.tokens, offer.layers, offer.codec, offer.note))

    def _complete(self, incoming: Incoming) -> None:
        try:
            if incoming.completed or not incoming.whole():
                return
        except MismatchError as error:
            self._break(incoming, str(error))
            return
        incoming.completed = True
        now_s = time.monotonic()
        start_s = incoming.start_s if incoming.start_s is not None else now_s
        self.events.put(Completed(incoming.offer.id, incoming.tail, incoming.received_bytes, start_s, now_s))

    def _break(self, incoming: Incoming, reason: str) -> None:
        self._end(incoming, Kind.GONE, reason)
        self.events.put(Broken(incoming.offer.id, reason))

    def _end(self, incoming: Incoming, verdict: Kind, reason: str) -> None:
        incoming.ended = True
        del self._by_token[incoming.token]
        del self._by_id[incoming.offer.id]
        self._verdicts.add(incoming.token, verdict, reason.encode())
        incoming.say(verdict, body=reason.encode())
        self.events.forget(incoming.offer.id)

    # threads

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection = self._listener.accept()
            except OSError:
                if self._closing.wait(self._limits.beat_s):  # cut; or out of descriptors, which may pass
                    return
                continue
            with self._lock:
                if self._closing.is_set():
                    connection.close()
                    return
                peer = Peer(connection, self, self._limits)
                self._peers.add(peer)
                peer.start()

    def _watch(self) -> None:
        lease_s = self._limits.lease_s
        while not self._closing.wait(self._limits.beat_s / 2):
            with self._lock:
                now_s = time.monotonic()
                for incoming in list(self._by_id.values()):
                    if incoming.voice is None and now_s - incoming.detached_s > lease_s:
                        self._break(incoming, f"the sender was not heard from for {lease_s:g} s")

    def _decode_all(self) -> None:
        decoder = Decoder()
        while (task := self._tasks.get()) is not None:
            peer, frame, room = task
            with self._lock:
                incoming = self._by_token.get(frame.token)
                wanted = incoming is not None and frame.number not in incoming.claimed
                if incoming is not None and wanted:
                    incoming.claimed.add(frame.number)
            if incoming is not None and wanted:
                self._decode(decoder, incoming, frame, room)
            peer.give_back(room)

    def _decode(self, decoder: Decoder, incoming: Incoming, frame: Frame, room: Room) -> None:
        packet = room.view(frame.size)
        try:
            incoming.expect(header := read_header(packet), self._limits.most_bytes)
            layer = decoder.decode(packet, tensors=self._tensors)
        except PacketError as error:
            with self._lock:
                incoming.claimed.discard(frame.number)
                incoming.say(Kind.NEED, frame.number, str(error).encode())
            return
        except Exception as error:  # a packet that no repetition will mend
            self._give_up(incoming, f"packet {frame.number}: {error}")
            return
        self._hand_out(incoming, frame, layer, decoded_bytes(header))

    def _hand_out(self, incoming: Incoming, frame: Frame, layer: Layer, size: int) -> None:
        """Wait until the worker has room for it, then tell both."""
        event = Arrived(incoming.offer.id, layer.header.layer, layer.header.first_token, layer.k, layer.v)
        with self._lock:
            try:
                if not incoming.ended:
                    incoming.count_in(layer.header)
            except MismatchError as error:
                self._give_up(incoming, f"packet {frame.number}: {error}")
        if not self.events.put_when_room(event, size, lambda: not incoming.ended):
            return
        with self._lock:
            if incoming.ended:
                return
            incoming.have.add(frame.number)
            incoming.received_bytes += frame.size
            incoming.say(Kind.HAVE, frame.number)
            self._complete(incoming)

    def _give_up(self, incoming: Incoming, reason: str) -> None:
        with self._lock:
            if not incoming.ended:
                self._break(incoming, reason)
