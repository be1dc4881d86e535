"""Keys and values of a replica whose layers and heads are spread over ranks, as transfers to and from it see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thunderserve.engine.options import Rank
from thunderserve.engine.ranks.orders import Allocate, Order, Put, Read, packed_up, unpacked
from thunderserve.engine.replica.memory import PagedMemory

Ints = NDArray[np.int64]


class SpreadMemory:
    """A ``KvMemory`` in rank 0: all of it passes through here, and heads and layers are put together or taken apart.

    Args:
        own: of rank 0, which says how blocks are laid out.
        ranks: of the replica.
        pipes: to all ranks but 0, in their order.
        blocks: that every rank is to have.
        dtype: of keys and values.
    """

    def __init__(
        self, own: PagedMemory, ranks: Sequence[Rank], pipes: Sequence[Connection], blocks: int, dtype: torch.dtype
    ) -> None:
        self.own, self.block_tokens = own, own.block_tokens
        self._ranks, self._pipes, self._dtype = tuple(ranks), tuple(pipes), dtype
        self.tell(Allocate(blocks, own.block_tokens))

    def tell(self, order: Order) -> None:
        """To all other ranks."""
        for pipe in self._pipes:
            pipe.send(order)

    def put(self, layer: int, slots: Ints, k: Tensor, v: Tensor) -> None:
        """See ``KvMemory``: each rank that has the layer is sent its heads."""
        for number, rank in enumerate(self._ranks):
            if layer in rank.layers:
                own_k, own_v = (x.chunk(rank.of, 1)[rank.place] for x in (k, v))
                if number == 0:
                    self.own.put(layer, slots, own_k, own_v)
                else:
                    both = torch.stack((own_k, own_v)).to(self._dtype)
                    self._pipes[number - 1].send(Put(layer, slots, packed_up(both)))

    def read(self, layer: int, table: Sequence[int], tokens: int) -> tuple[Tensor, Tensor]:
        """See ``KvMemory``."""
        places = np.arange(tokens)
        slots = np.array(table, np.int64)[places // self.block_tokens] * self.block_tokens + places % self.block_tokens
        ((_, k, v),) = self.taken(range(layer, layer + 1), slots)
        return k, v

    def taken(self, layers: range, slots: Ints) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Each of the layers with its keys and values at ``slots``, (tokens, KV heads, dim) of all heads, on the CPU."""
        asked = [
            (number, range(max(layers.start, rank.first), min(layers.stop, rank.stop)))
            for number, rank in enumerate(self._ranks)
        ]
        asked = [(number, common) for number, common in asked if common]
        for number, common in asked:
            if number:
                self._pipes[number - 1].send(Read(common, slots))
        answers = [(common, self._answer(number, common, slots)) for number, common in asked]
        for layer in layers:
            both = torch.cat([x[layer - common.start] for common, x in answers if layer in common], -2)
            yield layer, both[0], both[1]

    def _answer(self, number: int, layers: range, slots: Ints) -> Tensor:
        if number == 0:
            return self.own.taken(layers, slots).cpu()
        return unpacked(self._pipes[number - 1].recv(), self._dtype)
