"""How long a side of a transfer waits, how often it tries, and how much memory it takes."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Bounds of a ``Sender`` or ``Receiver``; the two sides need not agree, but ``beat_s`` must be below ``silence_s``."""

    beat_s: float = 0.5
    """A connection that has nothing to say says so this often."""
    silence_s: float = 3.0
    """A connection on which nothing was heard for so long is dead; the sender makes a new one."""
    lease_s: float = 15.0
    """A transfer whose other side was not heard from for so long has failed, on both sides."""
    stall_s: float = 300.0
    """A transfer whose other side lives, but neither grants, takes packets nor confirms for so long, is given up."""
    connect_s: float = 3.0
    retries: int = 5
    """New connections without any progress in between; and sendings of one packet that arrives damaged."""
    pause_s: float = 0.05
    """Before the second attempt to connect; doubles up to a second."""
    most_bytes: int = 2 << 30
    """Sender: keys, values and packets held for all transfers; what would exceed it fails. Receiver: decoded layers that the
    worker has not taken; beyond it nothing is read, and the network makes the sender wait."""
    most_packet_bytes: int = 1 << 30
    """A receiver believes in no larger packet."""

    def checked(self) -> Limits:
        """Itself.

        Raises:
            ValueError: a bound is not positive, or beats are rarer than silence allows.
        """
        if min(self) <= 0:
            raise ValueError(f"every limit is positive: {self}")
        if 2 * self.beat_s > self.silence_s:
            raise ValueError(
                f"a beat every {self.beat_s} s is too rare for a silence of {self.silence_s} s: at most half"
            )
        return self
