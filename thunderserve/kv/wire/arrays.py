"""Tensors and arrays as blocks, without a copy: any strides, numpy or torch, on the CPU or on a GPU."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thunderserve.kv.wire.contract import Block, CodecError, Dtype

MEMORY: dict[Dtype, type[np.generic]] = {Dtype.FLOAT16: np.uint16, Dtype.BFLOAT16: np.int16, Dtype.FLOAT32: np.uint32}
"""The integer type whose arrays hold each format; the kernels tell formats apart by it."""
FORMATS = {
    "float16": Dtype.FLOAT16, "uint16": Dtype.FLOAT16, "bfloat16": Dtype.BFLOAT16, "int16": Dtype.BFLOAT16,
    "float32": Dtype.FLOAT32, "uint32": Dtype.FLOAT32,
}  # fmt: skip


class _Span:
    """Memory from the first to the last value of an array, for numpy to look at; keeps the array alive."""

    def __init__(self, owner: Any, address: int, count: int, kind: np.dtype[Any]) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "data": (address, False), "shape": (count,), "typestr": kind.str}


def format_of(x: Any) -> Dtype:
    """The format of an array or tensor. Numpy has no bfloat16: there, int16 holds its bits."""
    name = str(x.dtype).removeprefix("torch.")
    if name not in FORMATS:
        raise CodecError(f"a codec takes float16, bfloat16 or float32, not {name}")
    return FORMATS[name]


def block(x: Any) -> Block:
    """``x``, of shape (tokens, heads, dim), as a block. Nothing is copied, whatever its strides."""
    if x.ndim != 3:
        raise CodecError(f"a layer's keys and values have shape (tokens, heads, dim), not {tuple(x.shape)}")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _tensor_block(x, torch)
    return _array_block(x, format_of(x))


def _array_block(x: NDArray[Any], dtype: Dtype) -> Block:
    width = x.dtype.itemsize
    if any(stride % width for stride in x.strides) or not x.dtype.isnative or not x.flags.aligned:
        raise CodecError("values must be aligned, in the byte order of this machine")
    strides = [stride // width for stride in x.strides]
    reach = [(n - 1) * stride for n, stride in zip(x.shape, strides, strict=True)]
    below, above = sum(min(0, r) for r in reach), sum(max(0, r) for r in reach)
    count = above - below + 1 if x.size else 0
    address = x.__array_interface__["data"][0] + below * width
    memory = np.asarray(_Span(x, address, count, np.dtype(MEMORY[dtype]))) if count else np.zeros(0, MEMORY[dtype])
    (t, h, c), (tokens, heads, dim) = strides, x.shape
    return Block(memory, -below, t, h, c, tokens, heads, dim, dtype)


def _tensor_block(x: Any, torch: Any) -> Block:
    dtype = format_of(x)
    bits = x.detach().view({2: torch.int16, 4: torch.int32}[dtype.bytes])
    if x.device.type == "cpu":
        return _array_block(bits.numpy(), dtype)
    return tensor_block(x)


def tensor_block(x: Any) -> Block:
    """A tensor of shape (tokens, heads, dim) on any device, for the kernels of the GPU."""
    import torch

    dtype = format_of(x)
    bits = x.detach().view({2: torch.int16, 4: torch.int32}[dtype.bytes])
    reach = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True)) + 1 if x.numel() else 0
    (t, h, c), (tokens, heads, dim) = x.stride(), x.shape
    return Block(bits.as_strided((reach,), (1,)), 0, t, h, c, tokens, heads, dim, dtype)


def empty(tokens: int, heads: int, dim: int, dtype: Dtype) -> NDArray[Any]:
    """An array to decode into; int16 bits for bfloat16."""
    kind = {Dtype.FLOAT16: np.float16, Dtype.BFLOAT16: np.int16, Dtype.FLOAT32: np.float32}[dtype]
    return np.empty((tokens, heads, dim), kind)


def tensor(x: NDArray[Any]) -> Any:
    """What ``empty`` made, as a torch tensor over the same memory."""
    import torch

    found = torch.from_numpy(x)
    return found.view(torch.bfloat16) if x.dtype == np.int16 else found


def bytes_dtype() -> Any:
    """Torch's uint8, once torch is there."""
    return sys.modules["torch"].uint8
