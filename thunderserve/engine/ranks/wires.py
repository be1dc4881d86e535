"""What travels while a step is computed: partial sums within a stage, activations from stage to stage, tokens to rank 0.

Over gloo where the devices are CPUs, over NCCL where they are CUDA cards (never run by us: no GPU here).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from thunderserve.engine.options import Rank

LOOPBACK = "127.0.0.1"
TCPStore: Any = dist.TCPStore  # type: ignore[attr-defined]  # torch has no stub for it


def open_store(ranks: int) -> Any:
    """Rank 0's, at any free port of the loopback, where the others find everybody.

    torch's own socket would listen on every network of the machine, and it asks nobody who they are.
    """
    listening = socket.create_server((LOOPBACK, 0))
    port = listening.getsockname()[1]
    return TCPStore(
        LOOPBACK, port, ranks, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )  # fmt: skip


class Wires:
    """The connections of one rank. All ranks open theirs at the same time.

    Args:
        ranks: of the replica, stage by stage.
        number: which of them this is.
        store: of rank 0, or the port where it is.
    """

    def __init__(self, ranks: Sequence[Rank], number: int, store: Any) -> None:
        mine = ranks[number]
        self.first, self.last = mine.first == 0, mine.stop == max(rank.stop for rank in ranks)
        sources = [n for n, rank in enumerate(ranks) if rank.stop == mine.first]
        self._source = sources[mine.place % len(sources)] if sources else 0
        targets = [n for n, rank in enumerate(ranks) if rank.first == mine.stop]
        self._targets = [n for n in targets if ranks[n].place % mine.of == mine.place]
        self._device = torch.device(mine.device)
        self._speaker = next(n for n, rank in enumerate(ranks) if rank.stop == ranks[-1].stop)
        self.chooses = number == self._speaker
        """The logits of this rank give the tokens."""
        self.waits = number == 0 and not self.chooses
        """Tokens come to this rank from the one that ``chooses``."""
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        if isinstance(store, int):
            store = TCPStore(LOOPBACK, store, len(ranks), is_master=False)
        if on_cuda := self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        dist.init_process_group("nccl" if on_cuda else "gloo", store=store, rank=number, world_size=len(ranks))
        self._stage = self._join_stage(ranks, mine)

    @staticmethod
    def _join_stage(ranks: Sequence[Rank], mine: Rank) -> dist.ProcessGroup | None:
        """Every rank makes the groups of all stages, in one order: torch wants it so."""
        found = None
        for first in sorted({rank.first for rank in ranks}):
            group = dist.new_group([n for n, rank in enumerate(ranks) if rank.first == first])
            found = group if first == mine.first else found
        return found

    def sum(self, x: Tensor) -> Tensor:
        """Over the ranks of this stage, in place."""
        dist.all_reduce(x, group=self._stage)
        return x

    def gathered(self, x: Tensor) -> list[Tensor]:
        """The ``x`` of each rank of this stage, all of one shape."""
        found = [torch.empty_like(x) for _ in range(dist.get_world_size(self._stage))]
        dist.all_gather(found, x.contiguous(), group=self._stage)
        return found

    def receive(self, tokens: int, hidden: int, dtype: torch.dtype) -> Tensor:
        """Activations of the stage before, (tokens, hidden); every rank of a stage has the same."""
        found = torch.empty((tokens, hidden), dtype=dtype, device=self._device)
        dist.recv(found, self._source)
        return found

    def pass_on(self, x: Tensor) -> None:
        """Activations to those ranks of the next stage that this one serves."""
        for target in self._targets:
            dist.send(x.contiguous(), target)

    def tell(self, tokens: Sequence[int]) -> None:
        """The rank that ``chooses``: its tokens to rank 0, if that is another."""
        if dist.get_rank() != 0:
            dist.send(torch.tensor(tokens, dtype=torch.long, device=self._device), 0)

    def told(self, count: int) -> list[int]:
        """Rank 0: the tokens that another rank chose."""
        found = torch.empty(count, dtype=torch.long, device=self._device)
        dist.recv(found, self._speaker)
        return [int(token) for token in found.tolist()]

    @staticmethod
    def close() -> None:
        """Hang up."""
        dist.destroy_process_group()
