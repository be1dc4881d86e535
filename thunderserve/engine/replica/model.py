"""A Hugging Face model whose attention is ours: loaded once, asked for one step after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from thunderserve.engine.replica import attention
from thunderserve.engine.replica.attention import Batch, Compiled, Decode, Flash, Seen, gathered
from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.sampling import choose
from thunderserve.engine.replica.step import Step

COMPILED = (torch.float32, torch.bfloat16)


class Model:
    """Weights on one device.

    Args:
        folder: or a name of the hub.
        dtype: of weights and cache.
        device: where they are.
        kind: of attention for decoding: ``auto``, ``sdpa`` (the plain one) or ``flash``.
    """

    def __init__(self, folder: str, *, dtype: str = "float32", device: str = "cpu", kind: str = "auto") -> None:
        AttentionInterface.register(attention.NAME, attention.paged_attention)
        config: Any = AutoConfig.from_pretrained(folder)
        self.dtype, self.device = getattr(torch, dtype), torch.device(device)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=self.dtype, attn_implementation=attention.NAME
        )
        self._model = model.to(self.device).eval()
        text = config.get_text_config()
        self.layers = int(text.num_hidden_layers)
        self.heads = int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
        self.dim = int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
        self.vocabulary = int(text.vocab_size)
        self.max_context = int(getattr(text, "max_position_embeddings", 2048))
        self._decode = _decode_of(kind, self.device, self.dtype)

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers."""
        return 2 * self.layers * self.heads * self.dim * int(self.dtype.itemsize)

    def memory(self, blocks: int, block_tokens: int) -> PagedMemory:
        """An empty cache for this model."""
        return PagedMemory(self.layers, blocks, block_tokens, self.heads, self.dim, self.dtype, self.device)

    @torch.inference_mode()
    def execute(self, step: Step, memory: PagedMemory, seen: Seen | None = None) -> list[int]:
        """Compute a step; return one token for each of ``step.sampled``. ``seen`` is shown each layer's new keys and values."""
        slots = torch.from_numpy(step.slots).to(self.device)
        batch = Batch(step, memory, slots, self._decode, seen)
        rows = torch.from_numpy(step.rows).to(self.device)
        found = self._model(
            input_ids=torch.from_numpy(step.tokens).to(self.device)[None],
            position_ids=torch.from_numpy(step.positions).to(self.device)[None],
            use_cache=False, logits_to_keep=rows, paged=batch,
        )  # fmt: skip
        logits: Tensor = found.logits[0]
        return choose(logits, [(one.sampling, one.emitted) for one in step.sampled]) if len(rows) else []


def _decode_of(kind: str, device: torch.device, dtype: torch.dtype) -> Decode:
    if kind == "flash" or (kind == "auto" and device.type == "cuda" and _has_flash()):
        return Flash()
    if kind == "auto" and device.type == "cpu" and dtype in COMPILED:
        return Compiled()
    return gathered


def _has_flash() -> bool:
    from importlib.util import find_spec

    return find_spec("flash_attn") is not None
