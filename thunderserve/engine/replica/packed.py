"""The head's weights, laid out once for the matrix library of CPUs.

``torch.nn.functional.linear`` takes weights row by row, and reads them badly when it multiplies few rows. The head is the widest
matrix of a small model and only ever sees the rows that are sampled from, so a layout made for few rows costs nothing elsewhere:
for the other matrices it would slow whole prompts by a tenth (docs/engine.md, Speed).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """``x @ weight.T + bias`` in float32 on a CPU, from a weight in the library's own layout.

    Args:
        linear: what to take the place of.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return found


def pack_head(model: Any, dtype: torch.dtype, device: torch.device) -> bool:
    """Replace the head of a transformers model, where that is known to pay: float32 on a CPU; say whether it was.

    An embedding with the same weights (tied) keeps them, so they are held twice from then on.
    """
    head = getattr(model, "lm_head", None)
    if device.type != "cpu" or dtype != torch.float32 or type(head) is not nn.Linear:
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    model.lm_head = PackedLinear(head)
    return True


def emulates(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a CPU multiplies ``dtype`` number by number, for want of instructions: 3 to 9 times slower than float32 on AVX2."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
