"""The next token of each row of logits."""

from __future__ import annotations

from collections.abc import Sequence as Sequences

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thunderserve.engine.messages import Sampling


def choose(logits: Tensor, wanted: Sequences[tuple[Sampling, int]]) -> list[int]:
    """A token for each row of ``logits`` (rows, vocabulary), of which ``wanted`` has how, and its place in the answer.

    A row's choice depends on its logits, its seed and its place alone: not on the batch, and not on what came before. So an
    answer that goes on in another replica goes on as it would have.

    Raises:
        FloatingPointError: a row holds no number at its maximum, as broken weights or a broken cache give.
    """
    best, top = _highest(logits)
    if not np.isfinite(top).all():
        raise FloatingPointError("the logits of a row are not finite")
    found: list[int] = best.tolist()
    for row, (sampling, place) in enumerate(wanted):
        if sampling.temperature > 0:
            found[row] = _drawn(logits[row].float(), sampling, place)
    return found


def _highest(logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the first maximum (or NaN) of each row is, and that value. On a CPU numpy is ten times faster than torch, which
    does not vectorise it."""
    if logits.device.type == "cpu":
        rows = logits.float().numpy()
        best = rows.argmax(-1)
        return best, np.take_along_axis(rows, best[:, None], -1)[:, 0]
    on_device = logits.argmax(-1)
    return on_device.cpu().numpy(), logits.gather(-1, on_device[:, None])[:, 0].float().cpu().numpy()


def _drawn(logits: Tensor, sampling: Sampling, place: int) -> int:
    """By inversion over the tokens by descending probability, after top-k and top-p (which keep one token at least)."""
    ordered, ids = torch.sort(logits / sampling.temperature, descending=True, stable=True)
    if sampling.top_k > 0:
        ordered = ordered[: sampling.top_k]
    heap = torch.softmax(ordered.double(), -1).cumsum(-1)
    if sampling.top_p < 1:
        kept = int(torch.searchsorted(heap, torch.tensor(sampling.top_p, dtype=heap.dtype, device=heap.device))) + 1
        heap = heap[:kept]
    drawn = uniform(sampling.seed, place) * float(heap[-1])
    return int(ids[min(int((heap <= drawn).sum()), len(heap) - 1)])


def uniform(seed: int, place: int) -> float:
    """A number in [0, 1) that belongs to the ``place``-th token of a request with this seed."""
    return float(np.random.Generator(np.random.Philox(key=seed & (1 << 64) - 1, counter=place)).random())
