"""The kernels of the GPU, in Triton. Not yet run on a GPU: tested in Triton's interpreter, where they equal ``plain``
bit for bit.

Three things keep them equal on a card: float multiply-adds must not be fused (``enable_fp_fusion=False``), divisions
round to nearest (``div_rn``), and ranges are found over integers that sort as the numbers do.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from thunderserve.kv.kernels import triton_floats as floats
from thunderserve.kv.kernels import triton_loops as loops
from thunderserve.kv.kernels.compiled import hadamard_size
from thunderserve.kv.kernels.contract import Status
from thunderserve.kv.wire.contract import Block, CodecError, Dtype

FORM = {Dtype.FLOAT16: loops.HALF, Dtype.BFLOAT16: loops.BRAIN, Dtype.FLOAT32: loops.SINGLE}
END_FORM = {Dtype.FLOAT16: loops.HALF, Dtype.BFLOAT16: loops.BRAIN, Dtype.FLOAT32: loops.HALF}
ROWS = 16
"""Tokens, or heads of tokens, that a program takes."""
WIDE = 128
"""Bytes of packed codes of each."""


class Gpu:
    """Owns scratch on one device."""

    def __init__(self, device: torch.device | str = "cuda") -> None:
        self._status = torch.zeros(1, dtype=torch.int32, device=device)
        self._floats = torch.zeros(0, dtype=torch.int32, device=device)

    def encode_channels(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """See ``Kernels``."""
        grid, wide = (x.tokens // group, x.heads), triton.next_power_of_2(x.dim)
        settings = (FORM[x.dtype], END_FORM[x.dtype], bits, group, wide)
        edges = ends.view(torch.int16)
        self._run(loops.channel_ends, grid, x, edges, self._status, *settings)
        self._run(loops.channel_codes, grid, x, edges, codes, *settings)
        return self._answer()

    def decode_channels(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """See ``Kernels``."""
        grid, wide = (x.tokens // group, x.heads), triton.next_power_of_2(x.dim)
        settings = (FORM[x.dtype], END_FORM[x.dtype], bits, group, wide)
        self._run(loops.channel_values, grid, x, codes, ends.view(torch.int16), self._status, *settings)
        return self._answer()

    def encode_tokens(self, x: Block, bits: int, group: int, codes: Any, ends: Any) -> int:
        """See ``Kernels``."""
        rows, settings = triton.cdiv(x.tokens * x.heads, ROWS), (FORM[x.dtype], END_FORM[x.dtype], bits, group)
        edges = ends.view(torch.int16)
        self._run(loops.token_ends, (rows, triton.cdiv(x.dim, group)), x, edges, self._status, *settings, ROWS)
        self._run(loops.token_codes, _tiles(x, bits), x, edges, codes, *settings, ROWS, WIDE)
        return self._answer()

    def decode_tokens(self, codes: Any, ends: Any, bits: int, group: int, x: Block) -> int:
        """See ``Kernels``."""
        settings = (FORM[x.dtype], END_FORM[x.dtype], bits, group, ROWS, WIDE)
        self._run(loops.token_values, _tiles(x, bits), x, codes, ends.view(torch.int16), self._status, *settings)
        return self._answer()

    def encode_floats(self, x: Block, group: int, codes: Any, exponents: Any) -> int:
        """See ``Kernels``."""
        grid = (triton.cdiv(x.tokens * x.heads, ROWS), triton.cdiv(x.dim, group))
        self._run(floats.float_codes, grid, x, codes, exponents, self._status, FORM[x.dtype], group, ROWS)
        return self._answer()

    def decode_floats(self, codes: Any, exponents: Any, group: int, x: Block) -> int:
        """See ``Kernels``."""
        grid = (triton.cdiv(x.tokens * x.heads, ROWS), triton.cdiv(x.dim, group))
        self._run(floats.float_values, grid, x, codes, exponents, self._status, FORM[x.dtype], group, ROWS)
        return self._answer()

    def rotate(self, x: Block, y: Block) -> None:
        """See ``Kernels``."""
        size = hadamard_size(x.dim)
        grid = (triton.cdiv(x.tokens * x.heads, ROWS), x.dim // size)
        target = (y.memory, y.origin, y.token_stride, y.head_stride, y.dim_stride)
        scale = float(torch.tensor(1.0) / torch.tensor(float(size), dtype=torch.float64).sqrt().float())
        passes = size.bit_length() - 1
        self._run(floats.rotate, grid, x, *target, scale, FORM[x.dtype], FORM[y.dtype], size, passes, ROWS)

    def floats(self, tokens: int, heads: int, dim: int) -> Block:
        """See ``Kernels``."""
        if self._floats.numel() < tokens * heads * dim:
            self._floats = torch.zeros(tokens * heads * dim, dtype=torch.int32, device=self._floats.device)
        return Block(self._floats, 0, heads * dim, dim, 1, tokens, heads, dim, Dtype.FLOAT32)

    def copy_out(self, x: Block, out: Any) -> None:
        """See ``Kernels``."""
        out.view(x.memory.dtype).view(x.tokens, x.heads, x.dim).copy_(_look(x))

    def copy_in(self, data: Any, x: Block) -> None:
        """See ``Kernels``."""
        _look(x).copy_(data.view(x.memory.dtype).view(x.tokens, x.heads, x.dim))

    def _run(self, kernel: Any, grid: tuple[int, ...], x: Block, *rest: Any) -> None:
        if not isinstance(x.memory, torch.Tensor):
            raise CodecError("these kernels take tensors on a GPU; load the codec without them for the CPU")
        if min(grid) > 0:
            strides = (x.token_stride, x.head_stride, x.dim_stride, x.tokens, x.heads, x.dim)
            kernel[grid](x.memory, x.origin, *strides, *rest, enable_fp_fusion=False)

    def _answer(self) -> Status:
        status = Status(int(self._status.item()))
        self._status.zero_()
        return status


def _tiles(x: Block, bits: int) -> tuple[int, int]:
    """Programs over tokens and over the bytes of one token."""
    return triton.cdiv(x.tokens, ROWS), triton.cdiv(triton.cdiv(x.heads * x.dim * bits, 8), WIDE)


def _look(x: Block) -> Any:
    strides = (x.token_stride, x.head_stride, x.dim_stride)
    return x.memory.as_strided((x.tokens, x.heads, x.dim), strides, x.memory.storage_offset() + x.origin)
