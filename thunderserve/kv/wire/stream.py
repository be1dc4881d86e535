"""Packets one after the other over a pipe, a socket or a file, and the check that a whole cache arrived."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

from thunderserve.kv.wire.header import HEADER_BYTES, Header, PacketError, read_header


class Source(Protocol):
    """Anything that reads like a binary file."""

    def read(self, size: int, /) -> bytes | None:
        """Up to ``size`` bytes; none at the end."""


def packets(source: Source, *, most_bytes: int = 1 << 32) -> Iterator[bytearray]:
    """Each packet of ``source`` as soon as its last byte is there, until the source ends between two packets.

    Raises:
        PacketError: the stream ends inside a packet, a header is damaged, or a packet is larger than ``most_bytes``.
    """
    while head := _exactly(source, HEADER_BYTES, may_end=True):
        length = read_header(head).payload_bytes
        if length > most_bytes:
            raise PacketError(f"a packet of {length} bytes, more than the {most_bytes} that this reader takes")
        yield head + _exactly(source, length)


def _exactly(source: Source, size: int, *, may_end: bool = False) -> bytearray:
    found = bytearray()
    while len(found) < size:
        piece = source.read(size - len(found))
        if not piece:
            if may_end and not found:
                return found
            raise PacketError(f"truncated: the stream ended {size - len(found)} bytes before the packet did")
        found += piece
    return found


class Arrival:
    """Which tokens of which layers of one sequence have come; layers and chunks may come in any order, each once.

    Layers need not hold the same tokens: one with a sliding window has only the last.
    """

    def __init__(self) -> None:
        self._first: Header | None = None
        self._spans: dict[int, list[tuple[int, int]]] = {}

    def add(self, header: Header) -> None:
        """Count a packet.

        Raises:
            PacketError: it belongs to another sequence or model, or its tokens have come before.
        """
        first = self._first or header
        if (header.sequence, header.layers) != (first.sequence, first.layers):
            raise PacketError(
                f"foreign: sequence {header.sequence} of {header.layers} layers among sequence {first.sequence} of {first.layers}"
            )
        start, stop = header.first_token, header.first_token + header.shape.tokens
        spans = self._spans.setdefault(header.layer, [])
        if any(start < b and a < stop for a, b in spans):
            raise PacketError(f"layer {header.layer} has tokens {start} to {stop} twice")
        self._first = first
        spans.append((start, stop))

    def missing(self, tokens: int) -> list[int]:
        """Layers whose tokens do not yet reach, without a gap, from their first one to ``tokens``."""
        layers = self._first.layers if self._first else 0
        return [layer for layer in range(layers) if not _reaches(self._spans.get(layer, []), tokens)]


def _reaches(spans: list[tuple[int, int]], tokens: int) -> bool:
    ordered = sorted(spans)
    joined = all(a[1] == b[0] for a, b in itertools.pairwise(ordered))
    return bool(ordered) and joined and ordered[-1][1] == tokens
