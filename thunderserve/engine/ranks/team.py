"""Rank 0's hold on the whole replica: computes steps with the other ranks."""

from __future__ import annotations

from collections.abc import Sequence

from thunderserve.engine.options import WorkerOptions
from thunderserve.engine.ranks.memory import SpreadMemory
from thunderserve.engine.ranks.orders import Meet
from thunderserve.engine.ranks.part import Part
from thunderserve.engine.ranks.process import Process
from thunderserve.engine.ranks.wires import Wires, open_store
from thunderserve.engine.replica.attention import Seen
from thunderserve.engine.replica.step import Step


class Team:
    """A ``Computer`` of several ranks, of which this process is rank 0.

    Args:
        options: of the worker, with two ranks at least.
        others: the other ranks, just started.

    Raises:
        ValueError: the model cannot be divided as the ranks are.
    """

    def __init__(self, options: WorkerOptions, others: Sequence[Process]) -> None:
        self._ranks = options.ranks
        self._others = tuple(others)
        self._pipes = [one.pipe for one in self._others]
        self._store = open_store(len(options.ranks))
        for pipe in self._pipes:
            pipe.send(Meet(self._store.port))
        self._wires = Wires(options.ranks, 0, self._store)
        self._part = Part(options, 0, self._wires)
        self._memory: SpreadMemory | None = None
        sizes = self._part.sizes
        self.layers, self.vocabulary, self.max_context = sizes.layers, sizes.vocabulary, sizes.max_context
        self.kv_bytes_per_token = sizes.kv_values_per_token * int(self._part.dtype.itemsize)

    def memory(self, blocks: int, block_tokens: int) -> SpreadMemory:
        """An empty cache, in the place of an earlier one."""
        own = self._part.memory(blocks, block_tokens)
        self._memory = SpreadMemory(own, self._ranks, self._pipes, blocks, self._part.dtype)
        return self._memory

    def execute(self, step: Step, memory: SpreadMemory, seen: Seen | None = None) -> list[int]:
        """See ``Computer``. ``seen`` is shown all layers after the step, when every rank has computed its own."""
        if memory is not self._memory:
            raise ValueError("this cache is gone: the ranks have begun another")
        packed = step.packed(memory.block_tokens)
        memory.tell(packed)
        chosen = self._part.execute(packed, memory.own)
        if seen is not None:
            for layer, k, v in memory.taken(range(self.layers), packed.slots):
                seen(layer, k, v)
        return chosen

    def prepare(self, most: int) -> None:
        """See ``Computer``; the other ranks prepare themselves as they load."""
        self._part.prepare(most)

    def stop(self) -> None:
        """End the other ranks."""
        self._wires.close()
        for process in self._others:
            process.stop()
