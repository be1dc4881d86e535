"""A connection from a sender to one receiver, made anew when it breaks, and the two threads that use it.

All transfers to an address over one link share it, and the oldest that has a packet ready goes first: taking turns, transfers of
like size would all end late, and none earlier. The simulator's links do the same. One thread connects and writes, one reads what
the receiver says.
"""

from __future__ import annotations

import threading
from collections import deque

from thunderserve.engine.transfer.desk import Desk
from thunderserve.engine.transfer.encoding import Packed
from thunderserve.engine.transfer.events import Failed
from thunderserve.engine.transfer.frames import (
    FRAME_BYTES,
    Kind,
    ProtocolError,
    control,
    packet_head,
    read_head,
    with_body,
)
from thunderserve.engine.transfer.link import Bucket, send_paced
from thunderserve.engine.transfer.outgoing import Outgoing
from thunderserve.engine.transfer.reading import fill
from thunderserve.engine.transfer.transport import Address, Connection, Transport

LONGEST_PAUSE_S = 1.0
FAREWELL_S = 0.5
"""How long a closing sender tries to say that its transfers are over."""
Work = bytes | tuple[Outgoing, Packed]


class Road:
    """Transfers to one address over one link."""

    def __init__(self, address: Address, bucket: Bucket, desk: Desk, transport: Transport) -> None:
        self.address, self.bucket = address, bucket
        self._desk, self._transport = desk, transport
        self._changed = threading.Condition(desk.lock)
        self._carried: list[Outgoing] = []
        """In the order of their beginning."""
        self._by_token: dict[int, Outgoing] = {}
        self._control: deque[bytes] = deque()
        self._connection: Connection | None = None
        self._broken = ""
        self._failures = 0
        self._heard_s = self._busy_s = desk.clock.now()
        self._closed = False
        self.retired = False
        """Its thread has ended for want of transfers; the next one needs a new road."""
        self._thread = threading.Thread(target=self._run, name=f"kv-send-{address[1]}", daemon=True)
        self._thread.start()

    def add(self, outgoing: Outgoing) -> None:
        """Take a transfer on; under the lock."""
        self._drop_ended()
        if not self._carried:
            self._failures = 0  # those were of others
        outgoing.changed = self._changed
        self._carried.append(outgoing)
        self._by_token[outgoing.token] = outgoing
        if self._connection is not None:
            self._control.append(outgoing.attach())
        self._changed.notify_all()

    def look(self, now_s: float) -> None:
        """End transfers that are overdue; under the lock."""
        for outgoing in list(self._carried):
            outgoing.overdue(now_s, self._heard_s)

    def close(self) -> None:
        """Say that all is over, as far as the network takes it, and end both threads. Not under the lock."""
        with self._desk.lock:
            self._closed = True
            self._control.extend(
                control(Kind.ABORT, outgoing.token, body=b"the sender closed") for outgoing in self._carried
            )
            for outgoing in list(self._carried):
                outgoing.end(Failed(outgoing.id, "the sender closed"))
            self._changed.notify_all()
        self._thread.join(FAREWELL_S)
        with self._desk.lock:
            if self._connection is not None:
                self._connection.cut()
        self._thread.join()

    # the writing thread

    def _run(self) -> None:
        while self._wanted():
            try:
                self._session()
            except OSError as error:
                self._count_failure(self._broken or str(error) or type(error).__name__)

    def _wanted(self) -> bool:
        """Wait until there is something to carry; false when closed, or when there was nothing for long."""
        with self._desk.lock:
            self.retired = not self._changed.wait_for(lambda: self._carried or self._closed, self._desk.limits.lease_s)
            return not self.retired and not self._closed

    def _session(self) -> None:
        limits = self._desk.limits
        self._broken = ""
        connection = self._transport.connect(self.address, timeout_s=limits.connect_s, silence_s=limits.silence_s)
        reader = threading.Thread(
            target=self._listen, args=(connection,), name=f"kv-hear-{self.address[1]}", daemon=True
        )
        try:
            with self._desk.lock:
                self._connection = connection
                self._control.clear()
                self._control.extend(outgoing.attach() for outgoing in self._carried)
            reader.start()
            while (work := self._next()) is not None:
                self._send(connection, work)
        finally:
            with self._desk.lock:
                self._connection = None
            connection.cut()
            if reader.ident is not None:
                reader.join()
            connection.close()

    def _send(self, connection: Connection, work: Work) -> None:
        if isinstance(work, bytes):
            connection.send(work)
            return
        outgoing, packed = work
        try:
            connection.send(packet_head(outgoing.token, packed.number, len(packed.view)))
            send_paced(packed.view, packed.ready_s, self.bucket, self._desk.clock, connection.send)
        finally:
            with self._desk.lock:
                outgoing.sent(packed)

    def _next(self) -> Work | None:
        """What to send: what must be said, then the next packet of the oldest transfer, then a beat. None when it is over."""
        with self._desk.lock:
            while True:
                self._drop_ended()
                if self._broken:
                    raise ConnectionError(self._broken)
                if self._control:
                    return self._control.popleft()
                if self._closed or self._idle():
                    return None
                if (work := self._of_the_oldest()) is not None:
                    return work
                if not self._changed.wait(self._desk.limits.beat_s):
                    return control(Kind.BEAT)

    def _idle(self) -> bool:
        """Whether nothing has been under way for so long that the connection is not worth its beats."""
        now_s = self._desk.clock.now()
        if self._carried:
            self._busy_s = now_s
        return now_s - self._busy_s > self._desk.limits.lease_s

    def _of_the_oldest(self) -> Work | None:
        for outgoing in self._carried:
            if (packed := outgoing.next_packet()) is not None:
                return outgoing, packed
            if (frame := outgoing.next_control()) is not None:
                return frame
        return None

    def _drop_ended(self) -> None:
        for outgoing in [outgoing for outgoing in self._carried if outgoing.ended]:
            self._carried.remove(outgoing)
            del self._by_token[outgoing.token]

    def _count_failure(self, reason: str) -> None:
        """Pause before the next attempt, or give up what there is to carry after too many."""
        limits = self._desk.limits
        with self._desk.lock:
            self._failures += 1
            self._drop_ended()
            if self._failures > limits.retries:
                where = f"{self.address[0]}:{self.address[1]}"
                for outgoing in list(self._carried):
                    why = outgoing.abort_reason or f"{where} failed {self._failures} times in a row: {reason}"
                    outgoing.end(Failed(outgoing.id, why))
                self._drop_ended()
                self._failures = 0
                return
            pause_s = min(limits.pause_s * 2 ** (self._failures - 1), LONGEST_PAUSE_S)
            self._changed.wait_for(lambda: self._closed, pause_s)

    # the reading thread

    def _listen(self, connection: Connection) -> None:
        head = bytearray(FRAME_BYTES)
        reason = "the receiver ended the connection"
        try:
            while fill(connection, memoryview(head), self._heard, may_end=True):
                self._hear(connection, head)
        except OSError as error:
            reason = str(error) or type(error).__name__
        with self._desk.lock:
            self._broken = self._broken or reason
            self._changed.notify_all()
        connection.cut()

    def _heard(self) -> None:
        self._heard_s = self._desk.clock.now()

    def _hear(self, connection: Connection, head: bytearray) -> None:
        frame = read_head(head, 0)
        if frame.size:
            body = bytearray(frame.size)
            fill(connection, memoryview(body), self._heard)
            frame = with_body(frame, body)
        if frame.kind == Kind.BEAT:
            return
        if frame.kind < Kind.GRANT:
            raise ProtocolError(f"a receiver says no {frame.kind.name}")
        with self._desk.lock:
            outgoing = self._by_token.get(frame.token)
            if outgoing is not None:
                if frame.kind != Kind.NEED:
                    self._failures = 0
                outgoing.hear(frame)
                self._changed.notify_all()
