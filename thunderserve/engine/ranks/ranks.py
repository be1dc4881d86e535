"""A model on several ranks, in the place of ``Model``: what the first rank's worker asks, all ranks compute."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from thunderserve.engine.ranks.layout import Layout, RankOptions
from thunderserve.engine.ranks.part import NewMemory, Rank, Work, lean, tell
from thunderserve.engine.replica.attention import Seen
from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.step import Step


class Seat(NamedTuple):
    """Where a rank runs."""

    device: str
    cores: tuple[int, ...]


class Ranks:
    """The first rank, with the others as processes of their own; they end with this one.

    Args:
        folder: of the model, or a name of a hub.
        layout: of the replica.
        seats: of all ranks.
        dtype, kind, threads: as for ``Model`` and its worker.
    """

    whole = False

    def __init__(
        self, folder: str, layout: Layout, seats: Sequence[Seat], *, dtype: str, kind: str = "auto", threads: int = 1
    ) -> None:
        port = _free_port()
        told = [
            RankOptions(rank, layout, port, folder, dtype, seat.device, kind, threads, seat.cores)
            for rank, seat in enumerate(seats)
        ]
        command = [sys.executable, "-m", "thunderserve.engine.ranks"]
        self.processes = [
            subprocess.Popen([*command, one.to_json()], stdin=subprocess.DEVNULL)  # noqa: S603 - our own module
            for one in told[1:]
        ]
        self._rank = Rank(0, layout, folder, dtype, seats[0].device, kind)
        try:
            self._rank.meet(port)
        except BaseException:
            self.stop()
            raise
        config = self._rank.config
        self.layers, self.heads, self.dim = (
            int(config.num_hidden_layers), int(config.num_key_value_heads), self._rank.dim,
        )  # fmt: skip
        self.vocabulary, self.max_context = int(config.vocab_size), int(config.max_position_embeddings)
        self._itemsize = {"float32": 4}.get(dtype, 2)
        self._numbers: dict[int, int] = {}

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers and ranks."""
        return 2 * self.layers * self.heads * self.dim * self._itemsize

    def memory(self, blocks: int, block_tokens: int) -> PagedMemory:
        """An empty cache on every rank; the first rank's part stands for it."""
        new = NewMemory(blocks, block_tokens)
        tell(new)
        found = self._rank.keep(new)
        self._numbers[id(found)] = len(self._rank.memories) - 1
        return found

    def execute(self, step: Step, memory: PagedMemory, seen: Seen | None = None) -> list[int]:
        """See ``Model.execute``. Raises ValueError where somebody wants to see keys and values: each rank has its own."""
        if seen is not None:
            raise ValueError("keys and values of a replica on several devices cannot be sent")
        work = Work(self._numbers[id(memory)], lean(step))
        tell(work)
        return self._rank.compute(work)

    def stop(self) -> None:
        """End the other ranks."""
        for process in self.processes:
            process.kill()
            process.wait()
        self._rank.leave()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
