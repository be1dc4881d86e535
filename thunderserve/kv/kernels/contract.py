"""What a set of kernels does. ``compiled``, ``gpu`` and ``plain`` each do all of it, and agree bit for bit.

Groups. A *channel group* is ``group`` consecutive tokens of one channel (keys: an outlier channel keeps its own
range, KIVI). A *token group* is ``group`` consecutive channels of one head of one token (values, rotated keys); the
last of a head may be shorter.

Ends. A group is carried by its low and its high end, 16 bits each, and its codes: KIVI's scale and zero in as many
bytes, since

    zero = low        scale = (high - low) / (2 ** bits - 1)        value(code) = zero + code * scale, and high for the last code

and both sides compute the scale in float32. What that buys over sending a rounded float16 scale: the ends of the
group return exactly, so a second trip changes nothing; a scale can neither underflow (a constant group has low =
high) nor overflow. Ends have the dtype of the values; for float32 they are float16, rounded outwards.

Bytes. Code p of the byte lies in its p-th lowest ``bits``; with 8 / bits = P codes a byte,

    channel groups   codes (group of tokens, i < group / P, head, channel)   code p is token i + p * group / P of the group
                     ends  (group of tokens, [low, high], head, channel)
    token groups     codes (token, i < m = ceil(heads * dim / P))            code p is value i + p * m of the token's heads
                     ends  (token, [low, high], head, group of channels)     in a row; 0 beyond the last
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

from thunderserve.kv.wire.contract import Block, CodecError

SMALLEST_RANGE = 2.0**-100
"""A narrower group counts as constant: the inverse of its scale would leave float32."""
LARGEST_RANGE = 2.0**126
"""A wider group is refused, for the same reason."""


class Status(IntEnum):
    """How a kernel ended."""

    DONE = 0
    NOT_FINITE = 1
    TOO_WIDE = 2
    BAD_PAYLOAD = 3


REASONS = {
    Status.NOT_FINITE: "NaN or infinity among the {what}: no scale can carry them",
    Status.TOO_WIDE: "the {what} are too large for a 16-bit scale; send them with 'raw' or 'lossless'",
    Status.BAD_PAYLOAD: "the payload's {what} hold ends that no encoder writes",
}


def check(status: int, what: str) -> None:
    """Raise what ``status`` says about ``what`` (keys or values)."""
    if status != Status.DONE:
        raise CodecError(REASONS[Status(status)].format(what=what))


class Kernels(Protocol):
    """The inner loops. Bytes are uint8 arrays (or CUDA tensors), 8-byte aligned, of exactly the size that is filled or read."""

    def encode_channels(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """Codes and ends of the channel groups of ``x``, whose tokens are a multiple of ``group``."""

    def decode_channels(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """The inverse, into ``x``."""

    def encode_tokens(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """Codes and ends of the token groups of ``x``."""

    def decode_tokens(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """The inverse, into ``x``."""

    def encode_floats(self, x: Block, group: int, codes: Any, exponents: Any) -> int:
        """One float8 (e4m3) a value and one exponent a token group, see ``fp8.py``."""

    def decode_floats(self, codes: Any, exponents: Any, group: int, x: Block) -> int:
        """The inverse, into ``x``."""

    def rotate(self, x: Block, y: Block) -> None:
        """Each head of each token of ``x`` times a normalised Hadamard matrix, into ``y``; its own inverse up to rounding."""

    def floats(self, tokens: int, heads: int, dim: int) -> Block:
        """Float32 scratch for ``rotate``, valid until the next call."""

    def copy_out(self, x: Block, out: Any) -> None:
        """The bits of ``x`` as they are, little-endian, by token, head and channel."""

    def copy_in(self, data: Any, x: Block) -> None:
        """The inverse, into ``x``."""
