"""Weights of linear layers, laid out once for the matrix library of CPUs.

``torch.nn.functional.linear`` takes weights row by row, and reads them badly when it multiplies few rows: a decode step does
little else. With AVX-512 the library's own layout is faster for any number of rows. With AVX2 it is faster for few rows and slows
whole prompts by a tenth, so there only the head gets it: the widest matrix of a small model, which only ever sees the
rows that are sampled from (docs/engine.md, Speed).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)
PREPARED_ROWS = 1024
"""Up to so many rows all machine code is made when a worker starts: three seconds, and 520 MiB for SmolLM2-135M."""
CACHE_CAPACITY, CACHED = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 1 << 16
"""Of the matrix library's cache of machine code, in entries. A shape and a number of rows take two, so that its own 1,024 hold
128 numbers of rows for a Llama: beyond, it would make code anew that it has thrown away, and the heap would fray."""


class PackedLinear(nn.Module):
    """``x @ weight.T + bias`` on a CPU, from a weight in the library's own layout.

    Args:
        linear: what to take the place of.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._outputs, self._inputs = linear.weight.shape
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self._outputs, self._inputs

    def forward(self, x: Tensor) -> Tensor:
        """(..., rows, inputs) to (..., rows, outputs)."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return found


def pack(model: Any, dtype: torch.dtype, device: torch.device) -> int:
    """Replace the linear layers of a transformers model where that is known to pay; say how many were.

    An embedding with the weights of the head (tied) keeps them, so they are held twice from then on.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    os.environ.setdefault(CACHE_CAPACITY, str(CACHED))  # read by the library when it is first used
    wide = capability() == "AVX512"
    if dtype != torch.float32 and not (dtype == torch.bfloat16 and wide and not emulates(dtype, device)):
        return 0
    found = [(name, layer) for name, layer in model.named_modules() if _plain(layer) and (wide or name == "lm_head")]
    for name, layer in found:
        model.set_submodule(name, PackedLinear(layer))
    return len(found)


def prepare(model: Any, dtype: torch.dtype, rows: Iterable[int]) -> None:
    """Multiply once by a layer of each shape with each number of ``rows``; the head, which sees few rows, is left out.

    The library makes its machine code then, and not when the first prompt of such a length comes; nor does memory grow later.
    """
    layers = {
        layer.shape: layer
        for name, layer in model.named_modules()
        if isinstance(layer, PackedLinear) and name != "lm_head"
    }
    with torch.inference_mode():
        for count in rows:
            for (_, inputs), layer in layers.items():
                layer(torch.zeros(1, count, inputs, dtype=dtype))


def capability() -> str:
    """Of this CPU, as torch names it."""
    return str(torch.backends.cpu.get_cpu_capability())


def _plain(layer: Any) -> bool:
    return type(layer) is nn.Linear


def emulates(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a CPU multiplies ``dtype`` number by number, for want of instructions: 3 to 9 times slower than float32 on AVX2."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warn_if_emulated(dtype: torch.dtype, device: torch.device) -> None:
    """Tell the log of a worker that it could be faster."""
    if emulates(dtype, device):
        log.warning("this CPU has no bfloat16 instructions and emulates them: float32 is several times faster")
