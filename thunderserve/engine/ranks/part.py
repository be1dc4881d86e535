"""One rank: a part of the model, its own keys and values, and its place between the other ranks."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from thunderserve.engine.messages import Sampling
from thunderserve.engine.ranks import weights
from thunderserve.engine.ranks.layout import Layout
from thunderserve.engine.replica import attention
from thunderserve.engine.replica.attention import Batch
from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.model import decode_of
from thunderserve.engine.replica.sampling import choose
from thunderserve.engine.replica.step import Part as StepPart
from thunderserve.engine.replica.step import Step

FOREVER = timedelta(days=365)
"""An idle replica is no fault; a dead rank closes its connections, which ends the others at once."""


class Lean(NamedTuple):
    """What a rank needs to know of a sequence."""

    table: list[int]
    sampling: Sampling
    emitted: int


class NewMemory(NamedTuple):
    """Keep room for keys and values; memories are numbered as they come."""

    blocks: int
    block_tokens: int


class Work(NamedTuple):
    """Compute a step on a memory."""

    memory: int
    step: Step


@dataclass
class Rank:
    """One process of a replica, once it has met the others.

    Args:
        rank: its number; the first schedules and is asked by ``Ranks``.
        layout: of the replica.
        model: a folder, or a name of a hub.
        dtype, device, kind: as for ``Model``.
    """

    rank: int
    layout: Layout
    model: str
    dtype: str
    device: str
    kind: str = "auto"

    def meet(self, port: int) -> None:
        """Wait for all ranks, then load the weights. Raises SpecError for a model that cannot be cut so."""
        from transformers import AttentionInterface

        AttentionInterface.register(attention.NAME, attention.paged_attention)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        where = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=where, rank=self.rank, world_size=self.layout.size, timeout=FOREVER)
        self._stage, self._share = self.layout.stage_of(self.rank), self.layout.share(self.rank)
        on_gpu = self.device.startswith("cuda")
        groups = [
            dist.new_group(list(self.layout.ranks(stage)), backend="nccl" if on_gpu else "gloo", timeout=FOREVER)
            for stage in range(len(self.layout.stages))
        ]
        self._dtype, self._device = getattr(torch, self.dtype), torch.device(self.device)
        self._part, self.config = weights.load(self.model, self._share, self._dtype, self._device, attention.NAME)
        if self._share.degree > 1:
            group = groups[self._stage]
            for module in weights.row_parallel(self._part):
                module.register_forward_hook(lambda _module, _given, out: _summed(out, group))
        self._decode = decode_of(self.kind, self._device, self._dtype)
        self.heads = int(self.config.num_key_value_heads) // self._share.degree
        self.dim = int(
            getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        )
        self.memories: list[PagedMemory] = []

    def leave(self) -> None:
        """Forget the others."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def keep(self, new: NewMemory) -> PagedMemory:
        """An empty cache of this rank's layers and heads."""
        layers = self._share.layers[1] - self._share.layers[0]
        memory = PagedMemory(layers, new.blocks, new.block_tokens, self.heads, self.dim, self._dtype, self._device)
        self.memories.append(memory)
        return memory

    @torch.inference_mode()
    def compute(self, work: Work) -> list[int]:
        """This rank's part of a step. The first rank gets the tokens, others an empty list."""
        step, memory = work.step, self.memories[work.memory]
        batch = Batch(step, memory, torch.from_numpy(step.slots).to(self._device), self._decode)
        positions = torch.from_numpy(step.positions).to(self._device)[None]
        if self._share.first:
            given = {"input_ids": torch.from_numpy(step.tokens).to(self._device)[None]}
        else:
            given = {"inputs_embeds": self._received(len(step.tokens))}
        hidden = self._part.model(**given, position_ids=positions, use_cache=False, paged=batch).last_hidden_state
        if not self._share.last:
            self._hand_on(hidden)
            return self._told(len(step.rows)) if self.rank == 0 else []
        return self._sample(hidden[0], step)

    def _sample(self, hidden: Tensor, step: Step) -> list[int]:
        rows = step.rows
        if self._share.place:
            return []  # every rank of the last stage has the same sums; its leader speaks
        logits: Any = self._part.lm_head(hidden[torch.from_numpy(rows).to(self._device)])
        chosen = choose(logits, [(one.sampling, one.emitted) for one in step.sampled]) if len(rows) else []
        if self.rank and len(rows):
            dist.send(torch.tensor(chosen, dtype=torch.int64), 0)
        return chosen if self.rank == 0 else []

    def _told(self, count: int) -> list[int]:
        if not count:
            return []
        tokens = torch.empty(count, dtype=torch.int64)
        dist.recv(tokens, self.layout.ranks(len(self.layout.stages) - 1)[0])
        found: list[int] = tokens.tolist()
        return found

    def _hand_on(self, hidden: Tensor) -> None:
        """From the leader of this stage to every rank of the next."""
        if self._share.place == 0:
            for rank in self.layout.ranks(self._stage + 1):
                dist.send(hidden[0].contiguous().view(torch.uint8).cpu(), rank)

    def _received(self, tokens: int) -> Tensor:
        size = int(self.config.hidden_size)
        packet = torch.empty((tokens, size * self._dtype.itemsize), dtype=torch.uint8)
        dist.recv(packet, self.layout.ranks(self._stage - 1)[0])
        return packet.view(self._dtype).to(self._device)[None]


def _summed(out: Tensor, group: Any) -> Tensor:
    dist.all_reduce(out, group=group)
    return out


def lean(step: Step) -> Step:
    """The step without what only the scheduler knows of its sequences: a packet of a few hundred bytes."""

    def less(sequence: Any) -> Any:
        return Lean(list(sequence.table), sequence.sampling, sequence.emitted)

    parts = tuple(StepPart(less(one.sequence), one.start, one.stop, one.past, one.ends) for one in step.parts)
    decoding = tuple(less(one) for one in step.decoding)
    return Step(decoding, parts, step.tokens, step.positions, step.slots, step.tables, step.lengths)


def tell(message: NewMemory | Work | None) -> None:
    """From the first rank to all others."""
    dist.broadcast_object_list([message], src=0)


def hear() -> NewMemory | Work | None:
    """What the first rank says; None: it is over."""
    found: list[Any] = [None]
    dist.broadcast_object_list(found, src=0)
    message: NewMemory | Work | None = found[0]
    return message
