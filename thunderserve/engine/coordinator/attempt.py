"""One try of a request: who was asked, and what has been heard of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from thunderserve.engine.coordinator.peer import Peer
from thunderserve.engine.coordinator.routing import Need
from thunderserve.engine.messages import Token
from thunderserve.spec.plan import Flow

if TYPE_CHECKING:
    from thunderserve.engine.coordinator.request import Request


class Said(NamedTuple):
    """A token, and the end of the step that gave it, in seconds since the epoch."""

    token: Token
    at_s: float


@dataclass(eq=False)
class Attempt:
    """Workers know an attempt by its ``id``, which no other attempt has: what an earlier one still says is told apart."""

    id: int
    request: Request
    flow: Flow
    need: Need
    first_place: int
    """Of the first token that it will give."""
    prefill: Peer
    decode: Peer | None
    """None: whoever prefills goes on to the end."""
    preempted_before: int
    """By earlier attempts."""
    handed: bool = False
    """The decode worker has the keys and values, as the prefill worker says or as the decode worker's tokens show."""
    preempted: dict[int, int] = field(default_factory=dict)
    """By replica."""
    early: list[Said] = field(default_factory=list)
    """Said by the decode worker before the first token, which the prefill worker said earlier over another line, was read."""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Everybody who was asked."""
        return (self.prefill,) if self.decode is None else (self.prefill, self.decode)

    def needs(self, peer: Peer) -> bool:
        """Whether it is lost without this worker: the prefill worker is needed until it has handed over and said its token."""
        if self.request.ended:
            return False
        return peer is not self.prefill or not self.handed or not self.begun

    @property
    def begun(self) -> bool:
        """Whether its first token was told."""
        return len(self.request.told) > self.first_place

    def ready(self, said: Said) -> list[Said]:
        """What can be told now that ``said`` has come, in order; nothing if it was told already.

        Raises:
            ValueError: tokens between it and the last one are missing.
        """
        expected, place = len(self.request.told), said.token.place
        if place < expected:
            return []
        if place == expected:
            early, self.early = self.early, []
            return [said, *early]
        if self.begun or self.decode is None or place != expected + 1 + len(self.early):
            raise ValueError(f"token {place} was said before token {expected}")
        self.early.append(said)
        return []
