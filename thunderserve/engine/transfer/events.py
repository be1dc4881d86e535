"""What a worker's loop learns of its transfers: events, and the inbox that it empties without ever waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple


class Confirmed(NamedTuple):
    """Sender: the receiver has everything; the blocks may be freed. Ends the transfer."""

    id: int
    bytes: int
    """Of all packets that were sent, repeats included."""
    start_s: float
    """The first packet was granted and encoded (``time.monotonic`` of this process)."""
    end_s: float
    """The confirmation came."""


class Failed(NamedTuple):
    """Sender: it did not arrive, and the receiver will not use it. Ends the transfer; the blocks may be freed."""

    id: int
    reason: str


class Offered(NamedTuple):
    """Receiver: somebody has the KV of ``tokens`` tokens; answer with ``grant``, now or later, or with ``refuse``."""

    id: int
    tokens: int
    layers: int
    codec: str
    note: bytes


class Arrived(NamedTuple):
    """Receiver: one layer of some tokens, checked and decoded; arrays (or tensors) of shape (tokens, heads, dim)."""

    id: int
    layer: int
    first_token: int
    k: Any
    v: Any


class Completed(NamedTuple):
    """Receiver: every layer has been handed out. Answer with ``confirm``, or with ``refuse``."""

    id: int
    tail: bytes
    bytes: int
    """Of all packets, each once."""
    start_s: float
    """The first packet began to arrive (``time.monotonic`` of this process)."""
    end_s: float


class Broken(NamedTuple):
    """Receiver: the transfer is over, unconfirmed; what arrived must not be used. Ends the transfer."""

    id: int
    reason: str


Event = Confirmed | Failed | Offered | Arrived | Completed | Broken


class Inbox:
    """Events in their order, with a bound on the bytes that wait here; all under the lock of the side that fills it."""

    def __init__(self, lock: threading.RLock, most_bytes: int, wake: Callable[[], None] | None) -> None:
        self._changed = threading.Condition(lock)
        self._most_bytes = most_bytes
        self._wake = wake
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Of the layers that wait here."""
        return self._bytes

    def poll(self) -> list[Event]:
        """All events there are, perhaps none; at once."""
        with self._changed:
            found = [event for event, _ in self._events]
            self._events.clear()
            self._bytes = 0
            self._changed.notify_all()
        return found

    def get(self, timeout_s: float) -> Event | None:
        """The next event, or none after ``timeout_s`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._events, timeout_s):
                return None
            event, size = self._events.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return event

    def put(self, event: Event) -> None:
        """Add an event that holds no memory to speak of."""
        with self._changed:
            self._add(event, 0)

    def put_when_room(self, event: Event, size: int, alive: Callable[[], bool]) -> bool:
        """Wait until ``size`` bytes more have room (alone, anything has), then add the event; false if it dies meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not alive() or self._bytes == 0 or self._bytes + size <= self._most_bytes)
            if not alive():
                return False
            self._add(event, size)
            return True

    def forget(self, id: int) -> None:  # noqa: A002 - the events call it that
        """Drop layers and completions of a transfer that is over, so that none is met later under the same number."""
        with self._changed:
            kept = [item for item in self._events if item[0].id != id or not isinstance(item[0], Arrived | Completed)]
            self._events = deque(kept)
            self._bytes = sum(size for _, size in kept)
            self._changed.notify_all()

    def notify(self) -> None:
        """Let those who wait for room look again."""
        with self._changed:
            self._changed.notify_all()

    def _add(self, event: Event, size: int) -> None:
        self._events.append((event, size))
        self._bytes += size
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()
