"""Tensor parallelism: a model's linear layers cut along transformers' own plan for it.

transformers can carry its plans out itself (``tp_plan="auto"``, over DTensor, on gloo too), but loads all layers then. Here a
rank reads the rows and columns of its own layers alone, and what it computes with stays plain tensors.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from thunderserve.engine.options import Rank
from thunderserve.engine.ranks.wires import Wires

WHOLE = ("embedding_rowwise", "embedding_colwise", "replicate", "replicated_with_grad_allreduce")
"""Styles of parameters that every rank has whole; embeddings, which transformers can divide, too."""


class Cut(NamedTuple):
    """The part ``start`` to ``stop - 1`` of a parameter along ``axis``."""

    axis: int
    start: int
    stop: int


class RowLinear(nn.Module):
    """A linear layer that has some columns of its matrix: its sums are partial, and added up over the ranks."""

    def __init__(self, whole: nn.Linear, wires: Wires) -> None:
        super().__init__()
        self.weight, self.bias = whole.weight, whole.bias
        self._wires = wires

    def forward(self, x: Tensor) -> Tensor:
        """(..., own inputs) to (..., outputs)."""
        found = self._wires.sum(functional.linear(x, self.weight))
        return found if self.bias is None else found + self.bias


class GatheredLinear(nn.Module):
    """A linear layer that has some rows of its matrix, and gets the outputs of the others from the other ranks."""

    def __init__(self, whole: nn.Linear, of: int, wires: Wires) -> None:
        super().__init__()
        self.weight, self.bias = whole.weight, whole.bias
        self._wires = wires
        self._counts = [stop - start for start, stop in (share(whole.out_features, n, of) for n in range(of))]

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        own = functional.linear(x, self.weight, self.bias)
        padded = functional.pad(own, (0, max(self._counts) - own.shape[-1]))  # all_gather wants one shape
        parts = zip(self._wires.gathered(padded), self._counts, strict=True)
        return torch.cat([part[..., :count] for part, count in parts], -1)


def share(count: int, place: int, of: int) -> tuple[int, int]:
    """Start and stop of part ``place`` of ``count`` things; parts differ by one at most."""
    return place * count // of, (place + 1) * count // of


def cut(model: Any, rank: Rank, wires: Wires) -> dict[str, Cut]:
    """Replace layers whose outputs take all ranks of the stage; say which part of each parameter this rank has.

    Args:
        model: of transformers, its parameters not loaded yet.
        rank: whose share is wanted.
        wires: to the others.

    Returns:
        Cuts by the names of parameters; those without are whole.

    Raises:
        ValueError: the model's plan does not go with so many ranks, or is beyond us.
    """
    if rank.of == 1:
        return {}
    plan = model.tp_plan
    if not plan:
        raise ValueError(f"transformers has no tensor-parallel plan for {type(model).__name__}")
    found: dict[str, Cut] = {}
    for name, module in list(model.named_modules()):
        style = plan.get(re.sub(r"\d+", "*", name))
        if style is None or style in WHOLE or not any(True for _ in module.parameters()):
            continue
        if not isinstance(module, nn.Linear) or style not in {"colwise", "rowwise", "colwise_gather_output"}:
            raise ValueError(f"tensor parallelism of {name} ({type(module).__name__}, {style}) is not supported")
        found |= _cut_linear(model, name, module, style, rank, wires)
    return found


def _cut_linear(model: Any, name: str, module: nn.Linear, style: str, rank: Rank, wires: Wires) -> dict[str, Cut]:
    axis, size = (1, module.in_features) if style == "rowwise" else (0, module.out_features)
    if style == "colwise_gather_output":
        model.set_submodule(name, GatheredLinear(module, rank.of, wires))
    elif size % rank.of:
        raise ValueError(f"{rank.of} ranks cannot divide {name}, which has {size} of what they would share")
    elif style == "rowwise":
        model.set_submodule(name, RowLinear(module, wires))
    part = Cut(axis, *share(size, rank.place, rank.of))
    return {f"{name}.weight": part} | ({f"{name}.bias": part} if axis == 0 and module.bias is not None else {})
