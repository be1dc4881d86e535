"""What a codec is, and what it is given: one layer's keys and values of one sequence, as blocks of plain memory.

A codec turns two blocks into a payload and back. It knows nothing of headers, checksums or links; ``wire/packet.py``
adds them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from thunderserve.spec.kv import KvCodec


class CodecError(ValueError):
    """Keys or values that this codec cannot carry, said in words."""


class Dtype(IntEnum):
    """How one value is stored; the number is the one on the wire."""

    FLOAT16 = 1
    BFLOAT16 = 2
    FLOAT32 = 3

    @property
    def bytes(self) -> int:
        """Bytes of one value."""
        return 4 if self is Dtype.FLOAT32 else 2


class Shape(NamedTuple):
    """One layer of one sequence. Keys and values may differ in width (multi-head latent attention); heads are KV heads."""

    tokens: int
    heads: int
    key_dim: int
    value_dim: int
    dtype: Dtype


class Block(NamedTuple):
    """``tokens x heads x dim`` values somewhere in memory, never copied to be described.

    Value (t, h, c) is ``memory[origin + t * token_stride + h * head_stride + c * dim_stride]``; strides count values.
    """

    memory: Any
    """Contiguous bits: a numpy array of uint16 (float16), int16 (bfloat16) or uint32 (float32), or a CUDA tensor."""
    origin: int
    token_stride: int
    head_stride: int
    dim_stride: int
    tokens: int
    heads: int
    dim: int
    dtype: Dtype

    def part(self, start: int, stop: int) -> Block:
        """Tokens ``start`` to ``stop``."""
        return self._replace(origin=self.origin + start * self.token_stride, tokens=stop - start)


class Codec(Protocol):
    """One way to write keys and values. An instance owns scratch memory: give each thread its own."""

    @property
    def noun(self) -> KvCodec:
        """Its name and what it costs, as a plan states it."""

    def payload_bytes(self, shape: Shape) -> int:
        """Bytes of the payload of ``shape``; for a codec of variable length, the most there can be."""

    def encode(self, k: Block, v: Block, payload: Any) -> int:
        """Write both blocks into ``payload`` (uint8, at least ``payload_bytes``, 8-byte aligned); return the bytes written.

        Raises:
            CodecError: the values cannot be carried within the codec's bound (NaN, infinity, too wide a range).
        """

    def decode(self, payload: Any, k: Block, v: Block) -> None:
        """Fill both blocks from ``payload``, which has exactly the bytes that ``encode`` returned.

        Raises:
            CodecError: the payload is not one that ``encode`` writes.
        """
