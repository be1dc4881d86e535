"""One transfer at the side of its receiver: what was offered, what has come, how it ended. No threads and no network here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from thunderserve.engine.transfer.frames import Frame, Kind, Offer, control
from thunderserve.kv.wire.header import Header, PacketError
from thunderserve.kv.wire.stream import Arrival

REMEMBERED = 4096


class Voice(Protocol):
    """The way back to a sender."""

    def say(self, frame: bytes) -> None:
        """Send a control frame soon; at once back."""


class MismatchError(ValueError):
    """A packet that is whole, but not one of the transfer it came for."""


@dataclass
class Incoming:
    """A transfer that was offered and has not ended. Every field is guarded by the receiver's lock."""

    token: int
    offer: Offer
    voice: Voice | None
    """None while its connection is broken; then since ``detached_s``."""
    attempt: int = 0
    detached_s: float = 0.0
    granted: bool = False
    ended: bool = False
    claimed: set[int] = field(default_factory=set)
    """Packets being decoded or handed out."""
    have: set[int] = field(default_factory=set)
    """Packets that were handed out."""
    count: int | None = None
    """How many packets there are, when known."""
    tail: bytes = b""
    completed: bool = False
    received_bytes: int = 0
    start_s: float | None = None
    arrival: Arrival = field(default_factory=Arrival)

    def say(self, kind: Kind, number: int = 0, body: bytes = b"") -> None:
        """Tell the sender, when it can be told; what it missed is repeated when it is back."""
        if self.voice is not None:
            self.voice.say(control(kind, self.token, number, body))

    def attach(self, voice: Voice, attempt: int) -> None:
        """The sender is back over a new connection: repeat what it may not have heard. An older one is not listened to."""
        if attempt <= self.attempt:
            return
        self.voice, self.attempt = voice, attempt
        for number in sorted(self.have):
            self.say(Kind.HAVE, number)
        if self.granted:
            self.say(Kind.GRANT)

    def close(self, frame: Frame) -> None:
        """The sender says how many packets there were."""
        self.count, self.tail = frame.number, frame.body

    def whole(self) -> bool:
        """Whether everything was handed out and the sender has closed.

        Raises:
            MismatchError: all packets are here, and yet some layer does not reach the last token.
        """
        if self.count is None or len(self.have) < self.count:
            return False
        lacking = self.arrival.missing(self.offer.tokens) if self.have else list(range(self.offer.layers))
        if lacking:
            raise MismatchError(f"closed, but layers {lacking[:8]} do not reach token {self.offer.tokens}")
        return True

    def expect(self, header: Header, most_bytes: int) -> None:
        """Is this a packet of this transfer, and small enough to decode?

        Raises:
            MismatchError: it is not.
        """
        offer, shape = self.offer, header.shape
        found = (header.sequence, header.layers, header.codec)
        if found != (offer.id, offer.layers, offer.codec):
            raise MismatchError(
                f"(sequence, layers, codec) are {found}; offered were {(offer.id, offer.layers, offer.codec)}"
            )
        if header.first_token + shape.tokens > offer.tokens:
            raise MismatchError(f"tokens up to {header.first_token + shape.tokens}; offered were {offer.tokens}")
        size = decoded_bytes(header)
        if size > most_bytes:
            raise MismatchError(f"{size} bytes in one layer are more than the {most_bytes} that this receiver holds")

    def count_in(self, header: Header) -> None:
        """Note what came.

        Raises:
            MismatchError: these tokens of this layer came before, in another packet.
        """
        try:
            self.arrival.add(header)
        except PacketError as error:
            raise MismatchError(str(error)) from error


def decoded_bytes(header: Header) -> int:
    """Of keys and values."""
    shape = header.shape
    return int(shape.tokens * shape.heads * (shape.key_dim + shape.value_dim) * shape.dtype.bytes)


class Verdicts:
    """How the last transfers ended: a sender that missed the word is told again, and nothing is received twice."""

    def __init__(self) -> None:
        self._by_token: OrderedDict[int, tuple[Kind, bytes]] = OrderedDict()

    def add(self, token: int, kind: Kind, reason: bytes) -> None:
        """CONFIRM or GONE, for good."""
        self._by_token[token] = (kind, reason)
        while len(self._by_token) > REMEMBERED:
            self._by_token.popitem(last=False)

    def frame(self, token: int) -> bytes | None:
        """What to say about a transfer that has ended; none when it is not known."""
        if token not in self._by_token:
            return None
        kind, reason = self._by_token[token]
        return control(kind, token, body=reason)
