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
INT8 = KvCodec(name="int8", bits=8, group_size=64, group_overhead_bits=32)
INT4 = KvCodec(name="int4", bits=4, group_size=64, group_overhead_bits=32)
"""KIVI-style 4 bit (Liu et al. 2024): 32 bits for the range of a group of 64. The paper's own scheme is not known."""
INT2 = KvCodec(name="int2", bits=2, group_size=32, group_overhead_bits=32)
INT4_ROTATED = KvCodec(name="int4-rotated", bits=4, group_size=64, group_overhead_bits=32)
FP8 = KvCodec(name="fp8", bits=8, group_size=64, group_overhead_bits=8)
LOSSLESS = KvCodec(name="lossless", bits=13.6)
"""What it needs depends on the values: this is SmolLM2-135M in float16 (``harness bench codec --model``); 11.0 in bfloat16."""
CODECS = {codec.name: codec for codec in (RAW, INT8, INT4, INT2, INT4_ROTATED, FP8, LOSSLESS)}
"""What the modules of ``thunderserve/kv/`` put on the wire for long 16-bit sequences; a test holds the two together."""
