"""How far KV is off after its round trip, by layer and head: where a codec hurts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eval.answering import encode
from eval.prefill import Prefiller
from eval.round_trip import RoundTrip
from eval.weights import Layers, Weights


class KvError(NamedTuple):
    """Relative errors |decoded - x| / |x| (Frobenius norms over tokens and channels), each (layers, KV heads)."""

    keys: NDArray[np.float64]
    values: NDArray[np.float64]


def kv_error(weights: Weights, text: str, codec: str, *, tokens: int = 512, wire_dtype: str = "float16") -> KvError:
    """Errors of ``codec`` on the KV of the first ``tokens`` tokens of ``text``, against the KV as computed."""
    ids = encode(weights, text)[:tokens]
    layers = Prefiller(weights)([ids])[0]
    arrived = RoundTrip(codec, wire_dtype)(layers).layers
    return KvError(_relative(layers, arrived, 0), _relative(layers, arrived, 1))


def _relative(layers: Layers, arrived: Layers, which: int) -> NDArray[np.float64]:
    rows = []
    for computed, received in zip(layers, arrived, strict=True):
        x, y = computed[which].double(), received[which].double()
        rows.append(torch.linalg.vector_norm(y - x, dim=(1, 2)) / torch.linalg.vector_norm(x, dim=(1, 2)))
    return torch.stack(rows).cpu().numpy()
