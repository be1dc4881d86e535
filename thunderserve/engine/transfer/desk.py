"""What all transfers of one sender share, and how a layer is cut into packets."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thunderserve.engine.transfer.encoding import Encoding
from thunderserve.engine.transfer.events import Inbox
from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.link import Clock

if TYPE_CHECKING:
    from thunderserve.engine.transfer.outgoing import Outgoing

PIECE_BYTES = 8 << 20
PIECE_TOKENS = 256
"""The largest group of a codec: a cut at its multiples changes no code."""


def pieces(tokens: int, size: int) -> list[tuple[int, int]]:
    """How ``size`` bytes of ``tokens`` tokens are cut into packets: encoding, wire and decoding overlap inside a layer too."""
    fitting = PIECE_BYTES * tokens // max(1, size)
    step = max(PIECE_TOKENS, fitting // PIECE_TOKENS * PIECE_TOKENS)
    return [(start, min(start + step, tokens)) for start in range(0, max(1, tokens), step)]


@dataclass
class Desk:
    """What all transfers of one sender share. ``lock`` guards every field here and in them."""

    limits: Limits
    clock: Clock
    lock: threading.RLock
    inbox: Inbox
    encoding: Encoding
    held_bytes: int = 0
    """Keys, values and packets that a receiver does not yet have."""
    live: dict[int, Outgoing] = field(default_factory=dict)
    """By id."""
