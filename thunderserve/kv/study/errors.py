"""How far a codec's keys and values are from the true ones, and what that does to the output of attention."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Errors(NamedTuple):
    """Mean squared errors of the values themselves; relative errors ``|a - b| / |a|`` in the Euclidean norm."""

    key_mse: float
    value_mse: float
    key_relative: float
    value_relative: float
    output_relative: float
    """Of the output of attention: softmax(q k' / sqrt(dim)) v', with decoded keys and values, against the true ones."""


def attention(q: Floats, k: Floats, v: Floats) -> Floats:
    """Causal attention of one layer, (tokens, heads, dim) each; query heads share KV heads in order (GQA). Float32."""
    share = q.shape[1] // k.shape[1]
    future = np.triu(np.ones((len(q), len(q)), bool), 1)
    out = np.empty((len(q), q.shape[1], v.shape[2]), np.float32)
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // share].T / np.float32(np.sqrt(k.shape[2]))
        scores[future] = -np.inf
        scores = np.exp(scores - scores.max(1, keepdims=True))
        out[:, head] = (scores / scores.sum(1, keepdims=True)) @ v[:, head // share]
    return out


def relative(true: Floats, other: Floats) -> float:
    """Norm of the difference over the norm of ``true``."""
    return float(np.linalg.norm(true - other) / np.linalg.norm(true))


def errors(q: Floats, true: tuple[Floats, Floats], decoded: tuple[Floats, Floats]) -> Errors:
    """All of them for one layer."""
    (k, v), (k2, v2) = true, decoded
    return Errors(
        float(np.mean((k - k2) ** 2)),
        float(np.mean((v - v2) ** 2)),
        relative(k, k2),
        relative(v, v2),
        relative(attention(q, k, v), attention(q, k2, v2)),
    )
