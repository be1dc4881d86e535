"""The body of the integer codecs: keys per channel over groups of tokens, values per token over groups of channels
(KIVI)."""

from __future__ import annotations

from typing import Any

from thunderserve.kv.kernels.compiled import Compiled
from thunderserve.kv.kernels.contract import Kernels, check
from thunderserve.kv.wire.contract import Block, CodecError, Shape
from thunderserve.kv.wire.sections import clear_gaps, cut, total_bytes
from thunderserve.spec.kv import KvCodec

GROUPS = (8, 16, 32, 64, 128, 256)
"""Powers of two: whole bytes at 2 bit, and a tile of a GPU kernel."""


def checked(noun: KvCodec) -> KvCodec:
    """``noun``, when its group size is one that the kernels know.

    Raises:
        CodecError: it is not.
    """
    if noun.group_size not in GROUPS:
        raise CodecError(f"{noun.name} takes groups of {', '.join(map(str, GROUPS))} values, not {noun.group_size}")
    return noun


class Grouped:
    """Integer codes with the two ends of each group; see ``kernels/contract.py`` for both.

    Keys beyond the last whole group of tokens travel as they are. Values need no such tail: their groups lie inside a token.
    """

    def __init__(self, noun: KvCodec, bits: int, kernels: Kernels | None = None) -> None:
        self.noun, self.bits = checked(noun), bits
        self.kernels: Kernels = kernels if kernels is not None else Compiled()

    def payload_bytes(self, shape: Shape) -> int:
        """See ``Codec``; exact."""
        return total_bytes(self._sizes(shape))

    def encode(self, k: Block, v: Block, payload: Any) -> int:
        """See ``Codec``."""
        sizes = self._sizes(_shape(k, v))
        codes, ends, tail, value_codes, value_ends = cut(payload, sizes)
        grouped = self._grouped(k.tokens)
        check(self.kernels.encode_channels(k.part(0, grouped), self.bits, self.noun.group_size, codes, ends), "keys")
        self.kernels.copy_out(k.part(grouped, k.tokens), tail)
        check(self.kernels.encode_tokens(v, self.bits, self.noun.group_size, value_codes, value_ends), "values")
        clear_gaps(payload, sizes)
        return total_bytes(sizes)

    def decode(self, payload: Any, k: Block, v: Block) -> None:
        """See ``Codec``."""
        sizes = self._sizes(_shape(k, v))
        if len(payload) != total_bytes(sizes):
            raise CodecError(
                f"{len(payload)} bytes of payload, {self.noun.name} writes {total_bytes(sizes)} for this shape"
            )
        codes, ends, tail, value_codes, value_ends = cut(payload, sizes)
        grouped = self._grouped(k.tokens)
        check(self.kernels.decode_channels(codes, ends, self.bits, self.noun.group_size, k.part(0, grouped)), "keys")
        self.kernels.copy_in(tail, k.part(grouped, k.tokens))
        check(self.kernels.decode_tokens(value_codes, value_ends, self.bits, self.noun.group_size, v), "values")

    def _grouped(self, tokens: int) -> int:
        return tokens // self.noun.group_size * self.noun.group_size

    def _sizes(self, shape: Shape) -> tuple[int, int, int, int, int]:
        tokens, heads, key_dim, value_dim, dtype = shape
        group, grouped = self.noun.group_size, self._grouped(tokens)
        return (
            grouped * heads * key_dim * self.bits // 8,
            grouped // group * heads * key_dim * 4,
            (tokens - grouped) * heads * key_dim * dtype.bytes,
            *token_sizes(tokens, heads, value_dim, self.bits, group),
        )


def token_sizes(tokens: int, heads: int, dim: int, bits: int, group: int) -> tuple[int, int]:
    """Bytes of the codes and of the ends of so many tokens in token groups."""
    return tokens * -(-heads * dim * bits // 8), tokens * heads * -(-dim // group) * 4


def _shape(k: Block, v: Block) -> Shape:
    return Shape(k.tokens, k.heads, k.dim, v.dim, k.dtype)
