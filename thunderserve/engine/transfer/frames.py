"""Frames: the few bytes before every message of a transfer. Little-endian, version 1.

    offset  bytes
         0      4  magic "TSKT"
         4      1  version of the protocol, 1
         5      1  kind, see ``Kind``
         6      2  zero
         8      8  token: the sender's random number for this transfer; 0 for a beat
        16      4  number: of a packet, in the order they were given, from 0; of the packets, in CLOSE; of the attempt, in OFFER
        20      4  low half of the XXH64 of the body; 0 for a packet
        24      8  bytes of the body
        32      8  XXH64 of bytes 0 to 31: a length is believed only when it is unharmed
        40         body

A packet's body is a packet of ``thunderserve.kv.wire``, as it is; it carries its own checksums, so that one that arrives damaged
can be asked for again. Any other damage ends the connection, and the sender resumes over a new one.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from thunderserve.kv.wire.checksum import xxh64

MAGIC, VERSION = b"TSKT", 1
FIELDS = struct.Struct("<4sBBHQIIQ")
CHECK = struct.Struct("<Q")
FRAME_BYTES = FIELDS.size + CHECK.size
MOST_CONTROL_BYTES = 1 << 20
OFFER = struct.Struct("<QQI16s")


class Kind(IntEnum):
    """What a frame says."""

    OFFER = 1
    """Sender: id, tokens, layers, codec, note. Sent again on every new connection: the transfer goes on here.

    ``number`` counts the attempts: a connection that was given up may still be read when the next one is, and must not win.
    """
    PACKET = 2
    """Sender: one layer of some tokens."""
    CLOSE = 3
    """Sender: there were ``number`` packets; the body is the tail."""
    ABORT = 4
    """Sender: reason. Answered with GONE, or with CONFIRM if that came first."""
    GRANT = 16
    """Receiver: there is room, send."""
    HAVE = 17
    """Receiver: packet ``number`` is here, whole and decoded."""
    NEED = 18
    """Receiver: packet ``number`` arrived damaged; the body says how. Send it again."""
    CONFIRM = 19
    """Receiver: everything is here and will be used."""
    GONE = 20
    """Receiver: it will not be used; reason."""
    BEAT = 32
    """Both: still alive."""


class ProtocolError(ConnectionError):
    """What came is no frame of this protocol; the connection cannot be read any further."""


class Frame(NamedTuple):
    """A message, without its body when that is a packet."""

    kind: Kind
    token: int = 0
    number: int = 0
    size: int = 0
    body_check: int = 0
    body: bytes = b""


class Offer(NamedTuple):
    """What a sender says about a transfer."""

    id: int
    tokens: int
    layers: int
    codec: str
    note: bytes

    def write(self) -> bytes:
        """As the body of a frame."""
        return OFFER.pack(self.id, self.tokens, self.layers, self.codec.encode("ascii")) + self.note


def read_offer(body: bytes) -> Offer:
    """The inverse of ``Offer.write``.

    Raises:
        ProtocolError: too short.
    """
    if len(body) < OFFER.size:
        raise ProtocolError(f"an offer has {OFFER.size} bytes or more, not {len(body)}")
    number, tokens, layers, codec = OFFER.unpack_from(body)
    return Offer(number, tokens, layers, codec.rstrip(b"\0").decode("ascii", "replace"), body[OFFER.size :])


def control(kind: Kind, token: int = 0, number: int = 0, body: bytes = b"") -> bytes:
    """A whole frame of any kind but a packet."""
    return _head(kind, token, number, _body_check(body), len(body)) + body


def packet_head(token: int, number: int, size: int) -> bytes:
    """What goes before a packet of ``size`` bytes."""
    return _head(Kind.PACKET, token, number, 0, size)


def _head(kind: Kind, token: int, number: int, body_check: int, size: int) -> bytes:
    head = FIELDS.pack(MAGIC, VERSION, kind, 0, token, number, body_check, size)
    return head + CHECK.pack(xxh64(head))


def _body_check(body: bytes | bytearray) -> int:
    return xxh64(body) & 0xFFFFFFFF if body else 0


def read_head(head: bytes | bytearray, most_packet_bytes: int) -> Frame:
    """The fields of a frame from its first ``FRAME_BYTES``; ``with_body`` adds the rest of one that is no packet.

    Raises:
        ProtocolError: foreign, of another version, damaged, or larger than is believed.
    """
    magic, version, kind, zero, token, number, body_check, size = FIELDS.unpack_from(head)
    if magic != MAGIC:
        raise ProtocolError(f"the other side does not speak this protocol: {bytes(magic)!r} where {MAGIC!r} is due")
    if version != VERSION:
        raise ProtocolError(f"the other side speaks version {version} of the protocol, this program version {VERSION}")
    if CHECK.unpack_from(head, FIELDS.size)[0] != xxh64(bytes(head[: FIELDS.size])):
        raise ProtocolError("a damaged frame: its head does not match its checksum")
    if kind not in list(Kind) or zero:
        raise ProtocolError(f"an unknown frame: kind {kind}")
    if size > (most_packet_bytes if kind == Kind.PACKET else MOST_CONTROL_BYTES):
        raise ProtocolError(f"a frame of {size} bytes is larger than this side believes in")
    return Frame(Kind(kind), token, number, size, body_check)


def with_body(frame: Frame, body: bytes | bytearray) -> Frame:
    """``frame`` with its body.

    Raises:
        ProtocolError: the checksum does not match.
    """
    if frame.body_check != _body_check(body):
        raise ProtocolError(f"a damaged frame: the body of {frame.kind.name} does not match its checksum")
    return frame._replace(body=bytes(body))


def warm_up_frames() -> None:
    """Have the checksum's machine code at hand: a connection that waits for a compiler would look dead to the other side."""
    frame = control(Kind.GONE, body=bytes(FRAME_BYTES))
    head, body = bytearray(frame[:FRAME_BYTES]), bytearray(frame[FRAME_BYTES:])
    with_body(read_head(head, 0), body)
