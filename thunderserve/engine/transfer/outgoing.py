"""One transfer at the side of its sender: what has been given, sent and acknowledged. No threads and no network here."""

from __future__ import annotations

import heapq
import secrets
import threading
from typing import Any

from thunderserve.engine.transfer.desk import Desk, pieces
from thunderserve.engine.transfer.encoding import Chunk, Packed, Task
from thunderserve.engine.transfer.events import Confirmed, Failed
from thunderserve.engine.transfer.frames import Frame, Kind, Offer, control
from thunderserve.kv.wire.header import Header, PacketError, read_header
from thunderserve.kv.wire.stream import Arrival
from thunderserve.spec.kv import KvCodec


class Outgoing:
    """A transfer that was started: give it layers in any order, close it, or abort it. Nothing here waits for anything."""

    def __init__(self, offer: Offer, codec: KvCodec | str, desk: Desk) -> None:
        self.offer = offer
        self.token = secrets.randbits(63) | 1
        self.changed: threading.Condition | None = None
        """Wakes the thread that sends for it."""
        self.ended = False
        self.abort_reason: str | None = None
        self.abort_s = 0.0
        self.begin_s = self.moved_s = desk.clock.now()
        """When the receiver last did something for it, or it began to need that."""
        self._desk = desk
        self._codec = codec
        self._attempt = 0
        self._given = 0
        self._encoded = 0
        self._arrival = Arrival()
        self._packets: dict[int, Packed] = {}
        self._queue: list[int] = []
        self._granted_s: float | None = None
        self._tail: bytes | None = None
        self._last_said = False
        """CLOSE or ABORT went over this connection."""
        self._bytes = 0
        self._start_s: float | None = None

    @property
    def id(self) -> int:
        """The number it was started with."""
        return self.offer.id

    @property
    def granted(self) -> bool:
        """Whether the receiver has made room, as far as this connection knows."""
        return self._granted_s is not None

    # what the worker calls

    def put(self, layer: int, first_token: int, k: Any, v: Any) -> None:
        """One layer of the tokens from ``first_token`` on; arrays or tensors (tokens, heads, dim), left alone from now on.

        A large one travels, and arrives, as several packets, cut at multiples of 256 tokens.
        After the end of the transfer this does nothing: the worker may not have heard of it yet.

        Raises:
            ValueError: there is no such layer, or it was closed.
        """
        if not 0 <= layer < self.offer.layers:
            raise ValueError(f"transfer {self.id} has {self.offer.layers} layers; there is no layer {layer}")
        for start, stop in pieces(len(k), int(k.nbytes) + int(v.nbytes)):
            chunk = self._take(layer, first_token + start, k[start:stop], v[start:stop])
            if chunk is None:
                return
            task = Task(self._codec, self.offer.layers, self.id, chunk, self._wanted, self._when_encoded)
            self._desk.encoding.add(task)

    def close(self, tail: bytes = b"") -> None:
        """That was all; ``tail`` (such as the first token) is handed out when every layer has been.

        Raises:
            ValueError: it was closed before.
        """
        with self._desk.lock:
            if self._tail is not None:
                raise ValueError(f"transfer {self.id} was closed before")
            self._tail = bytes(tail)
            self._settle()
            self._wake()

    def abort(self, reason: str) -> None:
        """Give up. It still ends by the receiver's word: ``Failed``, or ``Confirmed`` if that came first."""
        with self._desk.lock:
            self._abort(reason)

    # what the sending thread calls, under the lock

    def attach(self) -> bytes:
        """The first frame for it over a new connection; what the receiver does not have will be sent over this one."""
        self._last_said = self.abort_reason is not None
        if self.abort_reason is not None:
            return control(Kind.ABORT, self.token, body=self.abort_reason.encode())
        self._attempt += 1
        self._granted_s = None
        self._queue = sorted(self._packets)
        return control(Kind.OFFER, self.token, self._attempt, self.offer.write())

    def next_packet(self) -> Packed | None:
        """What to send next, marked as being sent; ``sent`` takes the mark away."""
        if self._granted_s is None or self.abort_reason is not None or not self._queue:
            return None
        packed = self._packets[heapq.heappop(self._queue)]
        packed.sending = True
        packed.sendings += 1
        packed.ready_s = max(packed.ready_s, self._granted_s)
        self._bytes += len(packed.view)
        self._start_s = self._start_s or packed.ready_s
        return packed

    def next_control(self) -> bytes | None:
        """The frame that is due instead of a packet, once: that it was given up, or that there are no more packets."""
        if self.abort_reason is not None:
            frame = None if self._last_said else control(Kind.ABORT, self.token, body=self.abort_reason.encode())
            self._last_said = True
            return frame
        all_sent = self._tail is not None and self._encoded == self._given and not self._queue
        if not all_sent or self._granted_s is None or self._last_said:
            return None
        self._last_said = True
        return control(Kind.CLOSE, self.token, self._given, self._tail or b"")

    def sent(self, packed: Packed) -> None:
        """``packed`` is out, or the connection broke over it."""
        packed.sending = False
        if packed.dropped:
            packed.give_back()

    def hear(self, frame: Frame) -> None:
        """What the receiver says."""
        self.moved_s = self._desk.clock.now()
        if frame.kind == Kind.GRANT and self._granted_s is None:
            self._granted_s = self.moved_s
        elif frame.kind == Kind.HAVE:
            self._drop(frame.number)
        elif frame.kind == Kind.NEED:
            self._again(frame)
        elif frame.kind == Kind.CONFIRM:
            start_s = self._start_s if self._start_s is not None else self.moved_s
            self.end(Confirmed(self.id, self._bytes, start_s, self.moved_s))
        elif frame.kind == Kind.GONE:
            self.end(Failed(self.id, self.abort_reason or frame.body.decode("utf-8", "replace")))

    def overdue(self, now_s: float, heard_s: float) -> None:
        """End, or give up, when the receiver was silent for the lease, or did nothing for it for too long.

        Args:
            now_s: the time.
            heard_s: when anything was last heard over the connection.
        """
        limits = self._desk.limits
        if self.abort_reason is not None and now_s - self.abort_s > limits.lease_s:
            self.end(Failed(self.id, self.abort_reason))
        elif now_s - max(heard_s, self.begin_s) > limits.lease_s:
            self.end(Failed(self.id, f"the receiver was not heard from for {limits.lease_s:g} s"))
        elif self._waits() and self.abort_reason is None and now_s - self.moved_s > limits.stall_s:
            self._abort(f"the receiver did not {self._wish()} for {limits.stall_s:g} s")

    def end(self, event: Confirmed | Failed) -> None:
        """Give all memory back and tell the worker, once."""
        if self.ended:
            return
        self.ended = True
        for number in list(self._packets):
            self._drop(number)
        self._queue.clear()
        self._desk.live.pop(self.id, None)
        self._desk.inbox.put(event)
        self._wake()

    # its own

    def _take(self, layer: int, first_token: int, k: Any, v: Any) -> Chunk | None:
        """Number it and count its bytes; none when nobody wants it any more, or it is too much."""
        with self._desk.lock:
            if self._tail is not None:
                raise ValueError(f"transfer {self.id} was closed; layer {layer} comes too late")
            if not self._wanted():
                return None
            chunk = Chunk(self._given, layer, first_token, k, v)
            if self._desk.held_bytes + chunk.bytes > self._desk.limits.most_bytes:
                self._abort(f"the sender holds {self._desk.held_bytes} bytes that did not leave yet, and takes no more")
                return None
            if not self._waits():
                self.moved_s = self._desk.clock.now()
            self._given += 1
            self._desk.held_bytes += chunk.bytes
            return chunk

    def _wanted(self) -> bool:
        return not self.ended and self.abort_reason is None

    def _waits(self) -> bool:
        """Whether the next move is the receiver's."""
        return self._granted_s is None or bool(self._packets) or self._last_said

    def _wish(self) -> str:
        if self._granted_s is None:
            return "grant room"
        return "acknowledge a packet" if self._packets else "confirm"

    def _abort(self, reason: str) -> None:
        if self.ended or self.abort_reason is not None:
            return
        self.abort_reason, self.abort_s = reason, self._desk.clock.now()
        self._last_said = False
        for number in list(self._packets):
            self._drop(number)
        self._queue.clear()
        self._wake()

    def _settle(self) -> None:
        """When all is given and encoded: does every layer reach the last token?"""
        if self._tail is None or self._encoded < self._given or self.ended or self.abort_reason is not None:
            return
        lacking = self._arrival.missing(self.offer.tokens) if self._given else list(range(self.offer.layers))
        if lacking:
            named = ", ".join(map(str, lacking[:8]))
            self._abort(f"closed before all of {self.offer.tokens} tokens were there in layer {named}")

    def _when_encoded(self, chunk: Chunk, packed: Packed | None, reason: str) -> None:
        with self._desk.lock:
            self._desk.held_bytes -= chunk.bytes
            if packed is None:
                self._abort(reason)
                return
            if self.ended or self.abort_reason is not None:
                packed.give_back()
                return
            try:
                self._count(read_header(packed.view))
            except PacketError as error:
                packed.give_back()
                self._abort(str(error))
                return
            self._desk.held_bytes += packed.capacity
            packed.ready_s = self._desk.clock.now()
            self._packets[chunk.number] = packed
            heapq.heappush(self._queue, chunk.number)
            self._encoded += 1
            self._settle()
            self._wake()

    def _count(self, header: Header) -> None:
        self._arrival.add(header)
        if header.first_token + header.shape.tokens > self.offer.tokens:
            raise PacketError(
                f"layer {header.layer} has tokens beyond the {self.offer.tokens} that the transfer was started with"
            )

    def _again(self, frame: Frame) -> None:
        packed = self._packets.get(frame.number)
        if packed is None or frame.number in self._queue:
            return
        if packed.sendings > self._desk.limits.retries:
            reason = frame.body.decode("utf-8", "replace")
            self._abort(f"packet {frame.number} arrived damaged {packed.sendings} times: {reason}")
            return
        packed.ready_s = self._desk.clock.now()
        heapq.heappush(self._queue, frame.number)

    def _drop(self, number: int) -> None:
        """The receiver has it, or nobody wants it."""
        packed = self._packets.pop(number, None)
        if packed is None:
            return
        if number in self._queue:
            self._queue.remove(number)
            heapq.heapify(self._queue)
        self._desk.held_bytes -= packed.capacity
        packed.dropped = True
        if not packed.sending:
            packed.give_back()

    def _wake(self) -> None:
        if self.changed is not None:
            self.changed.notify_all()
