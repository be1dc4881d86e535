"""What a rank other than 0 does all day: hear an order, carry it out."""

from __future__ import annotations

from multiprocessing.connection import Connection

from thunderserve.engine.heap import give_back
from thunderserve.engine.options import WorkerOptions, longest_step
from thunderserve.engine.ranks.orders import Allocate, Meet, Order, Put, Read, packed_up, unpacked
from thunderserve.engine.ranks.part import Part
from thunderserve.engine.ranks.wires import Wires
from thunderserve.engine.replica.memory import PagedMemory


class Follower:
    """One rank, with its weights and its share of the cache.

    Args:
        options: of the worker.
        number: of the rank.
        pipe: from rank 0, which says first where to meet.

    Raises:
        EOFError: here and in ``run``: rank 0 has hung up.
        ValueError: the model cannot be divided as the ranks are, or rank 0 speaks another language.
    """

    def __init__(self, options: WorkerOptions, number: int, pipe: Connection) -> None:
        self._pipe = pipe
        meet = pipe.recv()
        if not isinstance(meet, Meet):
            raise ValueError(f"a rank is told first where to meet, not {type(meet).__name__}")
        self._part = Part(options, number, Wires(options.ranks, number, meet.port))
        give_back()
        self._part.prepare(longest_step(options.role))
        self._memory: PagedMemory | None = None

    def run(self) -> None:
        """Until rank 0 hangs up."""
        while True:
            self._carry_out(self._pipe.recv())

    def _carry_out(self, order: Order) -> None:
        if isinstance(order, Allocate):
            self._memory = None  # before there is another
            self._memory = self._part.memory(order.blocks, order.block_tokens)
            return
        if self._memory is None:
            raise ValueError(f"{type(order).__name__} before there was a cache")
        if isinstance(order, Put):
            k, v = unpacked(order.both, self._part.dtype)
            self._memory.put(order.layer, order.slots, k, v)
        elif isinstance(order, Read):
            self._pipe.send(packed_up(self._memory.taken(order.layers, order.slots)))
        elif not isinstance(order, Meet):
            self._part.execute(order, self._memory)
