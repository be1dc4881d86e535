"""A Hugging Face model whose attention is ours: loaded once, asked for one step after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from thunderserve.engine.replica import attention
from thunderserve.engine.replica.attention import Batch, Compiled, Decode, Flash, Seen, gathered
from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.packed import PREPARED_ROWS, pack, prepare, warn_if_emulated
from thunderserve.engine.replica.rows import Rows
from thunderserve.engine.replica.sampling import choose
from thunderserve.engine.replica.sizes import sizes_of
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
        warn_if_emulated(self.dtype, self.device)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=self.dtype, attn_implementation=attention.NAME
        )
        self._model = model.to(self.device).eval()
        self._rows = Rows(self.device, pack(self._model, self.dtype, self.device))
        self._sizes = sizes_of(config)
        self.layers, self.vocabulary = self._sizes.layers, self._sizes.vocabulary
        self.max_context = self._sizes.max_context
        self.kv_bytes_per_token = self._sizes.kv_values_per_token * int(self.dtype.itemsize)
        self._decode = decode_of(kind, self.device, self.dtype)

    def memory(self, blocks: int, block_tokens: int) -> PagedMemory:
        """An empty cache for this model."""
        layers, heads, dim = range(self.layers), self._sizes.heads, self._sizes.dim
        return PagedMemory(layers, blocks, block_tokens, heads, dim, self.dtype, self.device)

    @torch.inference_mode()
    def execute(self, step: Step, memory: PagedMemory, seen: Seen | None = None) -> list[int]:
        """Compute a step; return one token for each of ``step.sampled``. ``seen`` is shown each layer's new keys and values."""
        packed = step.packed(memory.block_tokens)
        slots = torch.from_numpy(packed.slots).to(self.device)
        found = self._model(
            input_ids=self._rows.widened(packed.tokens), position_ids=self._rows.widened(packed.positions),
            use_cache=False, logits_to_keep=self._rows.widened(packed.rows)[0],
            paged=Batch(packed, memory, slots, self._decode, seen),
        )  # fmt: skip
        logits: Tensor = found.logits[0, : len(packed.rows)]
        return choose(logits, packed.draws) if len(logits) else []

    def prepare(self, most: int) -> None:
        """See ``Computer``."""
        prepare(self._model, self.dtype, self._rows.numbers(min(most, PREPARED_ROWS)))

    def stop(self) -> None:
        """See ``Computer``: nothing was started."""


def decode_of(kind: str, device: torch.device, dtype: torch.dtype) -> Decode:
    """The attention of decoding tokens, by the ``kind`` that was asked for."""
    if kind == "flash" or (kind == "auto" and device.type == "cuda" and _has_flash()):
        return Flash()
    if kind == "auto" and device.type == "cpu" and dtype in COMPILED:
        return Compiled()
    return gathered


def _has_flash() -> bool:
    from importlib.util import find_spec

    return find_spec("flash_attn") is not None
