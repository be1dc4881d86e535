"""One rank's part of every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoConfig

from thunderserve.engine.options import WorkerOptions
from thunderserve.engine.ranks.load import load
from thunderserve.engine.ranks.wires import Wires
from thunderserve.engine.replica import attention
from thunderserve.engine.replica.attention import Batch
from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.model import decode_of
from thunderserve.engine.replica.packed import PREPARED_ROWS, pack, prepare, warn_if_emulated
from thunderserve.engine.replica.rows import Rows
from thunderserve.engine.replica.sampling import choose
from thunderserve.engine.replica.sizes import sizes_of
from thunderserve.engine.replica.step import Packed


class Part:
    """The layers and heads of one rank.

    Args:
        options: of the worker.
        number: of the rank.
        wires: to the others.

    Raises:
        ValueError: the model cannot be divided as the ranks are.
    """

    def __init__(self, options: WorkerOptions, number: int, wires: Wires) -> None:
        AttentionInterface.register(attention.NAME, attention.paged_attention)
        self._rank, self._wires = options.ranks[number], wires
        config: Any = AutoConfig.from_pretrained(options.model)
        self.sizes = sizes_of(config)
        self.dtype, self.device = getattr(torch, options.dtype), torch.device(self._rank.device)
        warn_if_emulated(self.dtype, self.device)
        planned = max(rank.stop for rank in options.ranks)
        if planned != self.sizes.layers:
            raise ValueError(f"the ranks hold {planned} layers, but the model has {self.sizes.layers}")
        if self.sizes.heads % self._rank.of:
            raise ValueError(f"{self._rank.of} ranks cannot divide the {self.sizes.heads} KV heads of the model")
        self._model = load(options.model, config, self._rank, wires, self.dtype, attention.NAME)
        self._rows = Rows(self.device, pack(self._model, self.dtype, self.device))
        self._decode = decode_of(options.attention, self.device, self.dtype)

    def memory(self, blocks: int, block_tokens: int) -> PagedMemory:
        """An empty cache for the layers and heads of this rank."""
        heads = self.sizes.heads // self._rank.of
        return PagedMemory(
            self._rank.layers, blocks, block_tokens, heads, self.sizes.dim, self.dtype, self.device
        )  # fmt: skip

    @torch.inference_mode()
    def execute(self, step: Packed, memory: PagedMemory) -> list[int]:
        """Compute this rank's part of a step, together with the other ranks.

        Returns:
            On rank 0 a token for each of ``step.rows``; on others nothing.
        """
        logits = self._forward(step, memory)
        if not len(step.rows):
            return []
        if logits is not None and self._wires.chooses:
            chosen = choose(logits, step.draws)
            self._wires.tell(chosen)
            return chosen
        return self._wires.told(len(step.rows)) if self._wires.waits else []

    def prepare(self, most: int) -> None:
        """For steps of up to ``most`` tokens: machine code before the first of them."""
        prepare(self._model, self.dtype, self._rows.numbers(min(most, PREPARED_ROWS)))

    def _forward(self, step: Packed, memory: PagedMemory) -> Tensor | None:
        """Logits of ``step.rows`` on the last stage; before it, activations for the next one."""
        batch = Batch(step, memory, self._tensor(step.slots), self._decode)
        tokens = len(step.tokens)
        common = {"position_ids": self._rows.widened(step.positions), "use_cache": False, "paged": batch}
        if self._wires.first:
            common["input_ids"] = self._rows.widened(step.tokens)
        else:
            common["inputs_embeds"] = self._rows.padded(self._wires.receive(tokens, self.sizes.hidden, self.dtype))[
                None
            ]
        if self._wires.last:
            rows = self._rows.widened(step.rows)[0]
            logits: Tensor = self._model(logits_to_keep=rows, **common).logits[0, : len(step.rows)]
            return logits
        self._wires.pass_on(self._model.base_model(**common).last_hidden_state[0, :tokens])
        return None

    def _tensor(self, x: Any) -> Tensor:
        return torch.from_numpy(x).to(self.device)
