"""The kernels of the CPU: numba's machine code behind the signatures of ``contract.Kernels``.

numba and not torch, by measurement (int4, LLaMA-30B shape, one core, GB/s of 16-bit KV, encode / decode): numba
4.9 / 4.1, torch eager 0.5 / 1.6, torch.compile 3.5 / 0.9, the numpy twin 0.3 to encode. It also needs no torch on the
machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thunderserve.kv.kernels import quantise, quarter
from thunderserve.kv.wire.contract import Block, Dtype

END_DTYPE = {Dtype.FLOAT16: np.uint16, Dtype.BFLOAT16: np.int16, Dtype.FLOAT32: np.uint16}


def layout(x: Block) -> quantise.Layout:
    """``x`` without its memory."""
    return (x.origin, x.token_stride, x.head_stride, x.dim_stride, x.tokens, x.heads, x.dim)


def joined(x: Block) -> Block:
    """``x`` with its heads as one where they lie side by side: the same bytes, when no group spans two heads."""
    if x.dim_stride == 1 and x.head_stride == x.dim:
        return x._replace(heads=1, dim=x.heads * x.dim, head_stride=x.heads * x.dim)
    return x


def hadamard_size(dim: int) -> int:
    """The largest power of two that divides ``dim``: how many channels are rotated together."""
    return dim & -dim


class Compiled:
    """Owns the scratch of one thread, one set a shape; nothing is allocated once a shape has been seen."""

    def __init__(self) -> None:
        self._scratch: dict[tuple[Dtype, int, int], quantise.Scratch] = {}
        self._floats = np.zeros(0, np.uint32)
        self._rows = (np.zeros(0, np.float32), np.zeros(0, np.float32))

    def _work(self, x: Block) -> quantise.Scratch:
        key = (x.dtype, x.heads, x.dim)
        if key not in self._scratch:
            self._scratch[key] = quantise.scratch(x.memory, x.heads, x.dim)
        return self._scratch[key]

    def encode_channels(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """See ``Kernels``."""
        x = joined(x)
        return quantise.encode_channels(
            x.memory, layout(x), bits, group, codes, ends.view(END_DTYPE[x.dtype]), self._work(x)
        )

    def decode_channels(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """See ``Kernels``."""
        x = joined(x)
        return quantise.decode_channels(
            codes, ends.view(END_DTYPE[x.dtype]), bits, group, x.memory, layout(x), self._work(x)
        )

    def encode_tokens(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """See ``Kernels``."""
        x = joined(x) if x.dim % group == 0 else x
        return quantise.encode_tokens(
            x.memory, layout(x), bits, group, codes, ends.view(END_DTYPE[x.dtype]), self._work(x)
        )

    def decode_tokens(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """See ``Kernels``."""
        x = joined(x) if x.dim % group == 0 else x
        return quantise.decode_tokens(
            codes, ends.view(END_DTYPE[x.dtype]), bits, group, x.memory, layout(x), self._work(x)
        )

    def encode_floats(self, x: Block, group: int, codes: Any, exponents: Any) -> int:
        """See ``Kernels``."""
        return quarter.encode_floats(x.memory, layout(x), group, codes, exponents, self._work(x))

    def decode_floats(self, codes: Any, exponents: Any, group: int, x: Block) -> int:
        """See ``Kernels``."""
        return quarter.decode_floats(codes, exponents, group, x.memory, layout(x), self._work(x))

    def rotate(self, x: Block, y: Block) -> None:
        """See ``Kernels``."""
        size = hadamard_size(x.dim)
        if self._rows[0].size != size:
            self._rows = (np.zeros(size, np.float32), np.zeros(size, np.float32))
        quarter.rotate(x.memory, layout(x), y.memory, layout(y), *self._rows, self._work(x).row)

    def floats(self, tokens: int, heads: int, dim: int) -> Block:
        """See ``Kernels``."""
        if self._floats.size < tokens * heads * dim:
            self._floats = np.zeros(tokens * heads * dim, np.uint32)
        return Block(self._floats, 0, heads * dim, dim, 1, tokens, heads, dim, Dtype.FLOAT32)

    def copy_out(self, x: Block, out: Any) -> None:
        """See ``Kernels``."""
        x = joined(x)
        quarter.copy_out(x.memory, layout(x), out.view(x.memory.dtype))

    def copy_in(self, data: Any, x: Block) -> None:
        """See ``Kernels``."""
        x = joined(x)
        quarter.copy_in(data.view(x.memory.dtype), x.memory, layout(x))
