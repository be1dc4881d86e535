"""How KV travels: a codec's name and what it costs on the wire."""

from __future__ import annotations

from pydantic import Field

from thunderserve.spec.noun import Noun


class KvCodec(Noun):
    """A codec, as a plan names it. ``raw`` sends the values as they are."""

    name: str
    bits: float = Field(gt=0, le=32)
    """Bits of one code."""
    group_size: int = Field(default=0, ge=0)
    """Values that share a scale and a zero point; 0 for none."""
    group_overhead_bits: float = Field(default=0, ge=0)
    """Bits of scale and zero of one group."""

    @property
    def bits_per_value(self) -> float:
        """Bits on the wire a value, scales and zeros included (4 bit, group 64, fp16 scale and zero: 4.5)."""
        return self.bits + (self.group_overhead_bits / self.group_size if self.group_size else 0.0)


RAW = KvCodec(name="raw", bits=16)
INT4 = KvCodec(name="int4", bits=4, group_size=64, group_overhead_bits=32)
"""KIVI-style 4 bit (Liu et al. 2024): fp16 scale and zero a group of 64. The paper's own scheme is not known."""
CODECS = {codec.name: codec for codec in (RAW, INT4)}
