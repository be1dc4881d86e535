"""Queries, keys and values of a real model, as its attention meets them (after rotary positions)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NAME = "thunderserve-capture"


class Captured(NamedTuple):
    """One layer of one prefilled text, float32, (tokens, heads, dim); ``q`` has all heads, ``k`` and ``v`` the KV heads."""

    q: NDArray[np.float32]
    k: NDArray[np.float32]
    v: NDArray[np.float32]


def capture(model_folder: Path, text: str, tokens: int) -> list[Captured]:
    """Prefill the first ``tokens`` tokens of ``text`` with the causal LM in ``model_folder``; keep what its layers attend over.

    Raises:
        ValueError: ``text`` is shorter.
    """
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, AutoTokenizer
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    found: list[Captured] = []

    def record(module: Any, query: Any, key: Any, value: Any, mask: Any, **settings: Any) -> Any:
        found.append(Captured(*(x[0].transpose(0, 1).float().numpy().copy() for x in (query, key, value))))
        return sdpa_attention_forward(module, query, key, value, mask, **settings)

    AttentionInterface.register(NAME, record)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    ids = AutoTokenizer.from_pretrained(model_folder)(text, return_tensors="pt").input_ids[:, :tokens]
    if ids.shape[1] < tokens:
        raise ValueError(f"the text has {ids.shape[1]} tokens, {tokens} are wanted")
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, attn_implementation=NAME)
    with torch.inference_mode():
        model(ids, use_cache=False)
    return found
