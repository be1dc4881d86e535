"""A slow link, made on a fast one: every transfer over it takes ``latency_s + bytes / bytes_per_s``.

The sender paces what it writes. A packet takes its turn on the link from the moment it *could* have left, not from when the
writing thread came to it, so that latency delays every byte but never leaves the link idle, and late wake-ups do not add up.
Only KV packets are paced; offers, grants and confirmations pass at once, as they are small and cross while prefill still runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

SLICE_S = 0.005
"""Bytes are handed to the network in pieces of about so many seconds of the link."""
HELD_UP_S = 0.05
"""A write that takes longer met a receiver that does not read."""
SMALLEST_PIECE, LARGEST_PIECE = 1 << 10, 1 << 22


class Link(NamedTuple):
    """What a transfer travels over. Transfers to one address with equal links share one bucket; so do all with one name."""

    bytes_per_s: float | None = None
    """None: as fast as the network is."""
    latency_s: float = 0.0
    name: str = ""

    def checked(self) -> Link:
        """Itself.

        Raises:
            ValueError: no such link can be.
        """
        if (self.bytes_per_s is not None and self.bytes_per_s <= 0) or self.latency_s < 0:
            raise ValueError(f"a link has a positive rate and no negative latency: {self}")
        return self


class Clock(Protocol):
    """Time, real or made up."""

    def now(self) -> float:
        """Seconds."""

    def sleep(self, seconds: float) -> None:
        """Return so many seconds later."""


class Monotonic:
    """The clock of the machine."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Give the processor away for so long."""
        time.sleep(seconds)


class Bucket:
    """A token bucket of depth zero in its virtual form (GCRA, ITU-T I.371): the time at which the link is free again."""

    def __init__(self, link: Link) -> None:
        self.link = link.checked()
        self._free_s = float("-inf")
        self._lock = threading.Lock()

    def reserve(self, size: int, ready_s: float) -> float:
        """When the last of ``size`` bytes arrives, that could have left at ``ready_s``; first come, first served."""
        rate = self.link.bytes_per_s
        with self._lock:
            self._free_s = max(self._free_s, ready_s) + (size / rate if rate else 0.0)
            return self._free_s + self.link.latency_s

    def held_up(self, until_s: float) -> None:
        """The network would take nothing until then: what it did not carry is not caught up with."""
        with self._lock:
            self._free_s = max(self._free_s, until_s - self.link.latency_s)

    @property
    def piece_bytes(self) -> int:
        """How much to hand over at once."""
        rate = self.link.bytes_per_s
        if not rate:
            return LARGEST_PIECE if self.link.latency_s else 0
        return min(max(int(rate * SLICE_S), SMALLEST_PIECE), LARGEST_PIECE)


def send_paced(
    data: memoryview, ready_s: float, bucket: Bucket, clock: Clock, send: Callable[[memoryview], None]
) -> None:
    """``send`` all of ``data``, each piece when it would have arrived over the bucket's link.

    Args:
        data: bytes.
        ready_s: when they could have left, in the clock's time.
    """
    size = bucket.piece_bytes
    if not size:
        send(data)
        return
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        wait_s = bucket.reserve(len(piece), ready_s) - clock.now()
        if wait_s > 0:
            clock.sleep(wait_s)
        begin_s = clock.now()
        send(piece)
        if clock.now() - begin_s > HELD_UP_S:
            bucket.held_up(clock.now())
