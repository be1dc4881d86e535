"""Float8 e4m3 with a power of two a group of channels of a token, in the manner of OCP MX (specification 1.0, section
5.1).

The power is the smallest with which the largest value of the group stays within 448. It costs one byte (biased by
127), and scaling by it is exact. Bound: ``|x - decoded| <= max(|x| / 16, 2 ** (e - 10))``, with e the exponent of the
group. A second trip changes nothing.
"""

from __future__ import annotations

from typing import Any

from thunderserve.kv.kernels.compiled import Compiled
from thunderserve.kv.kernels.contract import Kernels, check
from thunderserve.kv.kernels.grouped import checked
from thunderserve.kv.wire.contract import Block, Codec, CodecError, Shape
from thunderserve.kv.wire.sections import clear_gaps, cut, total_bytes
from thunderserve.spec.kv import KvCodec


def make(noun: KvCodec, kernels: Kernels | None = None) -> Codec:
    """The codec with the group size of ``noun``."""
    return Float8(noun, kernels)


class Float8:
    """One byte a value and one a group."""

    def __init__(self, noun: KvCodec, kernels: Kernels | None = None) -> None:
        self.noun = checked(noun)
        self.kernels: Kernels = kernels if kernels is not None else Compiled()

    def payload_bytes(self, shape: Shape) -> int:
        """See ``Codec``; exact."""
        return total_bytes(self._sizes(shape.tokens * shape.heads, shape.key_dim, shape.value_dim))

    def encode(self, k: Block, v: Block, payload: Any) -> int:
        """See ``Codec``."""
        sizes, group = self._sizes(k.tokens * k.heads, k.dim, v.dim), self.noun.group_size
        codes, exponents, value_codes, value_exponents = cut(payload, sizes)
        check(self.kernels.encode_floats(k, group, codes, exponents), "keys")
        check(self.kernels.encode_floats(v, group, value_codes, value_exponents), "values")
        clear_gaps(payload, sizes)
        return total_bytes(sizes)

    def decode(self, payload: Any, k: Block, v: Block) -> None:
        """See ``Codec``."""
        sizes, group = self._sizes(k.tokens * k.heads, k.dim, v.dim), self.noun.group_size
        if len(payload) != total_bytes(sizes):
            raise CodecError(
                f"{len(payload)} bytes of payload, {self.noun.name} writes {total_bytes(sizes)} for this shape"
            )
        codes, exponents, value_codes, value_exponents = cut(payload, sizes)
        check(self.kernels.decode_floats(codes, exponents, group, k), "keys")
        check(self.kernels.decode_floats(value_codes, value_exponents, group, v), "values")

    def _sizes(self, rows: int, key_dim: int, value_dim: int) -> tuple[int, int, int, int]:
        group = self.noun.group_size
        return rows * key_dim, rows * -(-key_dim // group), rows * value_dim, rows * -(-value_dim // group)
