"""One connected worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thunderserve.engine.messages import Beat, Hello, Message, encode

if TYPE_CHECKING:
    from thunderserve.engine.coordinator.attempt import Attempt


class Peer:
    """A worker from its hello until its connection ends.

    Args:
        hello: what it said first.
        writer: of its connection.
    """

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.hello = hello
        self._writer = writer
        self.alive = True
        self.silent_looks = 0
        """How often it was looked at since it last said something."""
        self.beat: Beat | None = None
        self.before: Beat | None = None
        """The beat before the last one."""
        self.attempts: dict[int, Attempt] = {}
        """By id: those whose end here has not been heard of."""

    @property
    def replica(self) -> int:
        """Its number in the plan."""
        return self.hello.replica

    def say(self, message: Message) -> None:
        """Send it soon; to one that has gone, say nothing."""
        if self.alive and not self._writer.is_closing():
            self._writer.write(encode(message))

    def heard(self, beat: Beat) -> None:
        """It lives."""
        self.before, self.beat = self.beat, beat

    def hang_up(self) -> None:
        """Close the line; what has not been sent is lost."""
        self.alive = False
        self._writer.transport.abort()

    def rate(self, field: str) -> float:
        """Increase a second of a counter of its beats, over the last one; 0 before two came."""
        if self.beat is None or self.before is None or self.beat.at_s <= self.before.at_s:
            return 0.0
        grown = getattr(self.beat, field) - getattr(self.before, field)
        return float(grown / (self.beat.at_s - self.before.at_s))
