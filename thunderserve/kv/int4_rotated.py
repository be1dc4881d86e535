"""4 bit after a Hadamard rotation of every head (QuaRot, Ashkboos et al. 2024; SAW-INT4, arXiv 2604.19157).

The rotation spreads an outlier channel over all channels of its head, so keys can be quantised per token like values:
no group of tokens has to fill up first, no tail is left, and a packet may hold any number of tokens. Bound, in the
rotated space of one head: ``|x - decoded| <= scale / 2`` for each value, hence root-mean-square error at most ``scale
/ 2`` after rotating back, plus float32 and final rounding. A second trip is not exact, because rotating back rounds.
"""

from __future__ import annotations

from typing import Any

from thunderserve.kv.kernels.compiled import Compiled
from thunderserve.kv.kernels.contract import Kernels, check
from thunderserve.kv.kernels.grouped import checked, token_sizes
from thunderserve.kv.wire.contract import Block, Codec, CodecError, Shape
from thunderserve.kv.wire.sections import clear_gaps, cut, total_bytes
from thunderserve.spec.kv import KvCodec

BITS = 4
SLAB_BYTES = 1 << 18
"""Rotated values at a time: a part of the second-level cache."""


def make(noun: KvCodec, kernels: Kernels | None = None) -> Codec:
    """The codec with the group size of ``noun``."""
    return Rotated(noun, kernels)


class Rotated:
    """Keys and values alike: rotated, then token groups with float16 ends."""

    def __init__(self, noun: KvCodec, kernels: Kernels | None = None) -> None:
        self.noun = checked(noun)
        self.kernels: Kernels = kernels if kernels is not None else Compiled()

    def payload_bytes(self, shape: Shape) -> int:
        """See ``Codec``; exact."""
        return total_bytes(self._sizes(shape.tokens, shape.heads, shape.key_dim, shape.value_dim))

    def encode(self, k: Block, v: Block, payload: Any) -> int:
        """See ``Codec``."""
        sizes = self._sizes(k.tokens, k.heads, k.dim, v.dim)
        codes, ends, value_codes, value_ends = cut(payload, sizes)
        self._encode(k, codes, ends, "keys")
        self._encode(v, value_codes, value_ends, "values")
        clear_gaps(payload, sizes)
        return total_bytes(sizes)

    def decode(self, payload: Any, k: Block, v: Block) -> None:
        """See ``Codec``."""
        sizes = self._sizes(k.tokens, k.heads, k.dim, v.dim)
        if len(payload) != total_bytes(sizes):
            raise CodecError(
                f"{len(payload)} bytes of payload, {self.noun.name} writes {total_bytes(sizes)} for this shape"
            )
        codes, ends, value_codes, value_ends = cut(payload, sizes)
        self._decode(codes, ends, k, "keys")
        self._decode(value_codes, value_ends, v, "values")

    def _sizes(self, tokens: int, heads: int, key_dim: int, value_dim: int) -> tuple[int, int, int, int]:
        group = self.noun.group_size
        return (*token_sizes(tokens, heads, key_dim, BITS, group), *token_sizes(tokens, heads, value_dim, BITS, group))

    def _encode(self, x: Block, codes: Any, ends: Any, what: str) -> None:
        for part, some_codes, some_ends in self._slabs(x, codes, ends):
            rotated = self.kernels.floats(part.tokens, x.heads, x.dim)
            self.kernels.rotate(part, rotated)
            check(self.kernels.encode_tokens(rotated, BITS, self.noun.group_size, some_codes, some_ends), what)

    def _decode(self, codes: Any, ends: Any, x: Block, what: str) -> None:
        for part, some_codes, some_ends in self._slabs(x, codes, ends):
            rotated = self.kernels.floats(part.tokens, x.heads, x.dim)
            check(self.kernels.decode_tokens(some_codes, some_ends, BITS, self.noun.group_size, rotated), what)
            self.kernels.rotate(rotated, part)

    def _slabs(self, x: Block, codes: Any, ends: Any) -> list[tuple[Block, Any, Any]]:
        """``x`` in runs of tokens, with their codes and ends."""
        code_bytes, end_bytes = token_sizes(1, x.heads, x.dim, BITS, self.noun.group_size)
        step = max(1, SLAB_BYTES // max(1, 4 * x.heads * x.dim))
        runs = [(start, min(start + step, x.tokens)) for start in range(0, x.tokens, step)]
        return [
            (x.part(a, b), codes[a * code_bytes : b * code_bytes], ends[a * end_bytes : b * end_bytes]) for a, b in runs
        ]
