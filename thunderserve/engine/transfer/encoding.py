"""Encoding beside the thread that computes: a thread, and buffers that are used again once a packet has arrived."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from thunderserve.kv.kernels.contract import Kernels
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.contract import Codec
from thunderserve.kv.wire.packet import Encoder
from thunderserve.spec.kv import KvCodec

SPARE = 8
"""Buffers of one codec that are kept though nothing is on its way."""


class Chunk(NamedTuple):
    """One layer of some tokens, as the model left it: k and v of shape (tokens, heads, dim)."""

    number: int
    layer: int
    first_token: int
    k: Any
    v: Any

    @property
    def bytes(self) -> int:
        """Of keys and values."""
        return int(self.k.nbytes) + int(self.v.nbytes)


class Packed:
    """An encoded packet until the receiver has it, and the buffer it lies in."""

    def __init__(self, encoder: Encoder, home: list[Packed]) -> None:
        self.encoder = encoder
        self.number = 0
        self.view = memoryview(b"")
        self.capacity = 0
        self.ready_s = 0.0
        self.sendings = 0
        self.sending = False
        """Being written to a socket: the buffer must not be used again yet."""
        self.dropped = False
        self._home = home

    def give_back(self) -> None:
        """The buffer is free for another packet."""
        self.view = memoryview(b"")
        if len(self._home) < SPARE:
            self._home.append(self)


class Task(NamedTuple):
    """A chunk to encode. ``done`` takes the packet, or none and the reason; ``wanted`` says whether anybody still waits."""

    codec: KvCodec | str
    layers: int
    sequence: int
    chunk: Chunk
    wanted: Callable[[], bool]
    done: Callable[[Chunk, Packed | None, str], None]


class Encoding:
    """One thread that encodes what it is given, in order. numba's kernels let other threads run Python meanwhile."""

    def __init__(self, kernels: Callable[[], Kernels] | None) -> None:
        self._kernels = kernels
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._codecs: dict[KvCodec | str, Codec] = {}
        self._free: dict[KvCodec | str, list[Packed]] = {}
        self._thread = threading.Thread(target=self._run, name="kv-encode", daemon=True)
        self._thread.start()

    def add(self, task: Task) -> None:
        """Encode later; at once back."""
        self._tasks.put(task)

    def close(self) -> None:
        """Finish what is running, and end."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._serve(task)
            del task  # or its keys and values live until the next one comes

    def _serve(self, task: Task) -> None:
        packed, reason = None, "nobody waits for it"
        if task.wanted():
            try:
                packed = self._packed(task)
            except Exception as error:  # whatever a codec dislikes ends one transfer, not all
                reason = f"layer {task.chunk.layer} cannot be encoded: {error}"
        task.done(task.chunk, packed, reason)

    def _packed(self, task: Task) -> Packed:
        if task.codec not in self._codecs:
            self._codecs[task.codec] = load(task.codec, self._kernels() if self._kernels else None)
        home = self._free.setdefault(task.codec, [])
        packed = home.pop() if home else Packed(Encoder(self._codecs[task.codec]), home)
        number, layer, first, k, v = task.chunk
        packed.view = packed.encoder.encode(
            k, v, layer=layer, layers=task.layers, first_token=first, sequence=task.sequence
        )
        packed.number, packed.sendings, packed.sending, packed.dropped = number, 0, False, False
        packed.capacity = max(packed.capacity, len(packed.view))
        return packed
