"""What a model's configuration says of its shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Of a whole model, however many devices share it."""

    layers: int
    heads: int
    """Of keys and values."""
    dim: int
    """Of one head."""
    hidden: int
    vocabulary: int
    max_context: int

    @property
    def kv_values_per_token(self) -> int:
        """Numbers in the keys and values of one token over all layers."""
        return 2 * self.layers * self.heads * self.dim


def sizes_of(config: Any) -> Sizes:
    """Of a transformers configuration."""
    text = config.get_text_config()
    return Sizes(
        layers=int(text.num_hidden_layers),
        heads=int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads),
        dim=int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads),
        hidden=int(text.hidden_size),
        vocabulary=int(text.vocab_size),
        max_context=int(getattr(text, "max_position_embeddings", 2048)),
    )
