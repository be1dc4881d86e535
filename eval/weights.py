"""A causal language model with its tokenizer, and the one kind of forward pass that is needed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values by layer, each (heads, tokens, dim), of one sequence, without padding."""


@dataclass(frozen=True)
class Weights:
    """A model in memory."""

    model: Any
    tokenizer: Any
    max_context: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = self.model.device
        return found

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, past: DynamicCache, *, last: bool) -> torch.Tensor:
        """Logits (rows, tokens, vocabulary) in float32 of new ``tokens`` (rows, tokens) after ``past``, which grows.

        ``mask`` (rows, past + new tokens) is 0 where a row is padded. ``last``: only the logits of the last token.
        """
        positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        kept = {"logits_to_keep": 1} if last else {}
        found = self.model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True, **kept
        )
        logits: torch.Tensor = found.logits.float()
        return logits


def load(name: str, *, dtype: str = "float32", device: str = "cpu") -> Weights:
    """Load from a folder or the hub. Raises OSError, in transformers' words, when there is nothing to load."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype))
    model.to(device).eval()
    return Weights(model, tokenizer, int(getattr(model.config, "max_position_embeddings", 2048)))


def layers_of(past: DynamicCache, row: int, padding: int) -> Layers:
    """One row of a cache without its ``padding`` first tokens; views, not copies."""
    layers: list[Any] = past.layers
    return tuple((layer.keys[row, :, padding:], layer.values[row, :, padding:]) for layer in layers)


def cache_of(rows: list[Layers]) -> tuple[DynamicCache, torch.Tensor]:
    """One cache of several sequences, shorter ones padded on the left, and its mask (rows, tokens)."""
    lengths = [row[0][0].shape[1] for row in rows]
    longest = max(lengths)
    past = DynamicCache()
    for number, (first_keys, first_values) in enumerate(rows[0]):
        keys = first_keys.new_zeros((len(rows), first_keys.shape[0], longest, first_keys.shape[2]))
        values = first_values.new_zeros((len(rows), first_values.shape[0], longest, first_values.shape[2]))
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            keys[index, :, longest - length :] = row[number][0]
            values[index, :, longest - length :] = row[number][1]
        past.update(keys, values, number)
    mask = torch.zeros((len(rows), longest), dtype=torch.long, device=rows[0][0][0].device)
    for index, length in enumerate(lengths):
        mask[index, longest - length :] = 1
    return past, mask
