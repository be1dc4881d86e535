"""A connection at the side of the receiver: one thread reads it, one says what must be said."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from thunderserve.engine.transfer.frames import FRAME_BYTES, Frame, Kind, ProtocolError, control, read_head, with_body
from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.reading import fill, skip
from thunderserve.engine.transfer.transport import Connection

ROOMS = 2
"""Packets of one connection in memory: one is read while one is decoded."""


class Room(NamedTuple):
    """Memory for one packet, from a multiple of eight bytes on."""

    memory: NDArray[np.uint64]

    def view(self, size: int) -> memoryview:
        """The first ``size`` bytes."""
        return self.memory.data.cast("B")[:size]


class House(Protocol):
    """What a connection needs of the receiver."""

    def wants(self, peer: Peer, token: int) -> bool:
        """Whether a packet of this transfer may come over this connection."""

    def take(self, peer: Peer, frame: Frame, room: Room) -> None:
        """A packet was read; give ``room`` back to the peer when it is decoded."""

    def hear(self, peer: Peer, frame: Frame) -> None:
        """The sender says something else."""

    def leave(self, peer: Peer) -> None:
        """The connection has ended."""


class Peer:
    """One connection and its two threads."""

    def __init__(self, connection: Connection, house: House, limits: Limits) -> None:
        self._connection, self._house, self._limits = connection, house, limits
        self._changed = threading.Condition()
        self._frames: deque[bytes] = deque()
        self._rooms: list[Room] = [Room(np.zeros(0, np.uint64))] * ROOMS
        self._cut = False
        self._writer = threading.Thread(target=self._write, name="kv-answer", daemon=True)
        self._reader = threading.Thread(target=self._run, name="kv-receive", daemon=True)

    def start(self) -> None:
        """Begin to read and to answer."""
        self._writer.start()
        self._reader.start()

    def say(self, frame: bytes) -> None:
        """See ``Voice``."""
        with self._changed:
            self._frames.append(frame)
            self._changed.notify_all()

    def give_back(self, room: Room) -> None:
        """A packet has been decoded."""
        with self._changed:
            self._rooms.append(room)
            self._changed.notify_all()

    def cut(self) -> None:
        """End both threads soon."""
        with self._changed:
            self._cut = True
            self._changed.notify_all()
        self._connection.cut()

    def join(self) -> None:
        """Wait for the end of both threads; not from either of them."""
        self._reader.join()

    def _run(self) -> None:
        try:
            self._read()
        except OSError:
            pass  # the sender comes back over a new connection, or its lease ends
        finally:
            self.cut()
            self._writer.join()
            self._connection.close()
            self._house.leave(self)

    def _read(self) -> None:
        head = bytearray(FRAME_BYTES)
        while fill(self._connection, memoryview(head), _nothing, may_end=True):
            frame = read_head(head, self._limits.most_packet_bytes)
            if frame.kind == Kind.PACKET:
                self._read_packet(frame)
                continue
            if frame.size:
                body = bytearray(frame.size)
                fill(self._connection, memoryview(body), _nothing)
                frame = with_body(frame, body)
            if Kind.GRANT <= frame.kind <= Kind.GONE:
                raise ProtocolError(f"a sender says no {frame.kind.name}")
            if frame.kind != Kind.BEAT:
                self._house.hear(self, frame)

    def _read_packet(self, frame: Frame) -> None:
        if not self._house.wants(self, frame.token):
            skip(self._connection, frame.size, _nothing)
            return
        with self._changed:
            self._changed.wait_for(lambda: self._rooms or self._cut)
            if self._cut:
                raise ConnectionError("closed")
            room = self._rooms.pop()
        if room.memory.nbytes < frame.size:
            room = Room(np.zeros(-(-frame.size // 8), np.uint64))
        fill(self._connection, room.view(frame.size), _nothing)
        self._house.take(self, frame, room)

    def _write(self) -> None:
        try:
            while (frame := self._next()) is not None:
                self._connection.send(frame)
        except OSError:
            self.cut()

    def _next(self) -> bytes | None:
        """What to say next; a beat when there is nothing; none when cut."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._cut, self._limits.beat_s)
            if self._frames:
                found = b"".join(self._frames)
                self._frames.clear()
                return found
            return None if self._cut else control(Kind.BEAT)


def _nothing() -> None:
    """Reading in time is all that counts here."""
