"""Rank 0's hold on the whole replica: starts the other ranks, and computes steps with them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

from thunderserve.engine.options import WorkerOptions
from thunderserve.engine.ranks.memory import SpreadMemory
from thunderserve.engine.ranks.orders import Meet
from thunderserve.engine.ranks.part import Part
from thunderserve.engine.ranks.wires import Wires, open_store
from thunderserve.engine.replica.attention import Seen
from thunderserve.engine.replica.step import Step

MODULE = "thunderserve.engine.ranks"


class Process:
    """The process of a rank other than 0, which ends with this one.

    Args:
        options: of the worker.
        number: of the rank.
        lost: called, with words, from a thread, when it ends before it was told to.
    """

    def __init__(self, options: WorkerOptions, number: int, lost: Callable[[str], None]) -> None:
        self.pipe, other = Pipe()
        self._number, self._lost, self._told = number, lost, False
        command = [sys.executable, "-m", MODULE, options.to_json(), str(number), str(other.fileno())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(other.fileno(),))  # noqa: S603
        other.close()
        threading.Thread(target=self._watch, name=f"rank-{number}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def stop(self) -> None:
        """At once: it has nothing that somebody would miss."""
        self._told = True
        self.pipe.close()
        self._process.kill()
        self._process.wait()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._told:
            self._lost(f"rank {self._number} (pid {self.pid}) ended with {code}")


class Team:
    """A ``Computer`` of several ranks, of which this process is rank 0.

    Args:
        options: of the worker, with two ranks at least.
        lost: called, with words, from a thread, when another rank has died: nothing can be computed any more.

    Raises:
        ValueError: the model cannot be divided as the ranks are.
    """

    def __init__(self, options: WorkerOptions, lost: Callable[[str], None]) -> None:
        self._ranks = options.ranks
        self._followers = [Process(options, number, lost) for number in range(1, len(options.ranks))]
        self._pipes: list[Connection] = [one.pipe for one in self._followers]
        self._store = open_store(len(options.ranks))
        for pipe in self._pipes:
            pipe.send(Meet(self._store.port))
        self._wires = Wires(options.ranks, 0, self._store)
        self._part = Part(options, 0, self._wires)
        self._memory: SpreadMemory | None = None
        sizes = self._part.sizes
        self.layers, self.vocabulary, self.max_context = sizes.layers, sizes.vocabulary, sizes.max_context
        self.kv_bytes_per_token = sizes.kv_values_per_token * int(self._part.dtype.itemsize)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the other ranks, in their order."""
        return tuple(follower.pid for follower in self._followers)

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

    def stop(self) -> None:
        """End the other ranks."""
        self._wires.close()
        for follower in self._followers:
            follower.stop()
