"""KIVI at 8 bit (Liu et al., ICML 2024, section 4): keys per channel, values per token, asymmetric.

Bound: |x - decoded| <= scale / 2, with scale = (high - low) / 255 of its group, plus one rounding to the dtype of the
values. For float32 the ends are first rounded outwards to float16. For float16 and bfloat16 a second trip changes
nothing.
"""

from __future__ import annotations

from thunderserve.kv.kernels.contract import Kernels
from thunderserve.kv.kernels.grouped import Grouped
from thunderserve.kv.wire.contract import Codec
from thunderserve.spec.kv import KvCodec


def make(noun: KvCodec, kernels: Kernels | None = None) -> Codec:
    """The codec with the group size of ``noun``."""
    return Grouped(noun, 8, kernels)
