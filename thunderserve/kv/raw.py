"""Values as they are, 16 bit where they are 16 bit; exact for every bit pattern, also NaN and infinity."""

from __future__ import annotations

from typing import Any

from thunderserve.kv.kernels.compiled import Compiled
from thunderserve.kv.kernels.contract import Kernels
from thunderserve.kv.wire.contract import Block, Codec, CodecError, Shape
from thunderserve.kv.wire.sections import clear_gaps, cut, total_bytes
from thunderserve.spec.kv import KvCodec


def make(noun: KvCodec, kernels: Kernels | None = None) -> Codec:
    """The codec; it has no settings."""
    return Raw(noun, kernels)


class Raw:
    """Keys, then values, by token, head and channel."""

    def __init__(self, noun: KvCodec, kernels: Kernels | None = None) -> None:
        self.noun = noun
        self.kernels: Kernels = kernels if kernels is not None else Compiled()

    def payload_bytes(self, shape: Shape) -> int:
        """See ``Codec``; exact."""
        return total_bytes(sizes(shape))

    def encode(self, k: Block, v: Block, payload: Any) -> int:
        """See ``Codec``."""
        lengths = sizes(Shape(k.tokens, k.heads, k.dim, v.dim, k.dtype))
        keys, values = cut(payload, lengths)
        self.kernels.copy_out(k, keys)
        self.kernels.copy_out(v, values)
        clear_gaps(payload, lengths)
        return total_bytes(lengths)

    def decode(self, payload: Any, k: Block, v: Block) -> None:
        """See ``Codec``."""
        lengths = sizes(Shape(k.tokens, k.heads, k.dim, v.dim, k.dtype))
        if len(payload) != total_bytes(lengths):
            raise CodecError(f"{len(payload)} bytes of payload, raw writes {total_bytes(lengths)} for this shape")
        keys, values = cut(payload, lengths)
        self.kernels.copy_in(keys, k)
        self.kernels.copy_in(values, v)


def sizes(shape: Shape) -> tuple[int, int]:
    """Bytes of the keys and of the values as they are."""
    rows = shape.tokens * shape.heads * shape.dtype.bytes
    return rows * shape.key_dim, rows * shape.value_dim
