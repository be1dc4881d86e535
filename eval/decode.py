"""Greedy decoding after contexts whose KV has arrived; rows may be different contexts, or one context under many codecs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from eval.weights import Layers, Weights, cache_of


class Start(NamedTuple):
    """A row: the KV of all but the last token of its context, and that token."""

    layers: Layers
    last_token: int


class Ended(NamedTuple):
    """Text up to the first stop, and how many tokens were generated for it."""

    text: str
    tokens: int


def greedy(weights: Weights, starts: Sequence[Start], *, stops: Sequence[str], max_tokens: int) -> list[Ended]:
    """Decode every row until it says a stop string, ends, or has ``max_tokens``. The stop is not part of the text.

    Raises FloatingPointError for logits that are not finite.
    """
    ids: list[list[int]] = [[] for _ in starts]
    running = list(range(len(starts)))
    ends = end_tokens(weights)
    past, mask = cache_of([start.layers for start in starts])
    new = torch.tensor([[start.last_token] for start in starts], device=weights.device)
    with torch.inference_mode():
        for _ in range(max_tokens):
            mask = torch.cat([mask, mask.new_ones((len(running), 1))], 1)
            logits = weights.forward(new, mask, past, last=True)[:, -1]
            if not torch.isfinite(logits).all():
                raise FloatingPointError("the model computed logits that are not finite")
            chosen = logits.argmax(-1)
            kept = []
            for place, (row, token) in enumerate(zip(running, chosen.tolist(), strict=True)):
                ids[row].append(token)
                if token not in ends and not _stopped(weights.tokenizer, ids[row], stops):
                    kept.append(place)
            if not kept:
                break
            if len(kept) < len(running):
                index = torch.tensor(kept, device=weights.device)
                past.batch_select_indices(index)
                mask, chosen = mask[index], chosen[index]
                running = [running[place] for place in kept]
            new = chosen[:, None]
    return [Ended(_cut(weights.tokenizer.decode(row, skip_special_tokens=True), stops), len(row)) for row in ids]


def end_tokens(weights: Weights) -> frozenset[int]:
    """The tokens at which the model ends of its own accord."""
    configured = getattr(weights.model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*listed, weights.tokenizer.eos_token_id) if token is not None)


def _stopped(tokenizer: Any, ids: list[int], stops: Sequence[str]) -> bool:
    """Whether the last few tokens hold a stop string: a stop of n characters spans at most n tokens, and one for a split one."""
    if not stops:
        return False
    window = tokenizer.decode(ids[-(max(map(len, stops)) + 1) :])
    return any(stop in window for stop in stops)


def _cut(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        if stop:
            text = text.split(stop, maxsplit=1)[0]
    return text
