"""Which blocks of KV memory hold what: handed out, shared between equal beginnings, and kept for the next equal one.

A full block is named by a hash over its tokens and all before them. When nobody holds it any more it is free, but stays
known under its name until it is handed out again, the longest unused first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np


def names_of(tokens: Sequence[int], block_tokens: int, known: Sequence[bytes] = ()) -> list[bytes]:
    """Names of the full blocks of ``tokens``; those of the first blocks, where they are ``known``, are not computed again."""
    names = list(known)
    for start in range(len(names) * block_tokens, len(tokens) - block_tokens + 1, block_tokens):
        piece = np.array(tokens[start : start + block_tokens], np.int64).tobytes()
        names.append(blake2b(piece, key=names[-1] if names else b"", digest_size=16).digest())
    return names


class Blocks:
    """``count`` blocks, each held by any number of sequences.

    Args:
        count: of blocks.
        reuse: keep names, so that equal beginnings share blocks.
    """

    def __init__(self, count: int, *, reuse: bool = True) -> None:
        self.count = count
        self._reuse = reuse
        self._holders = np.zeros(count, np.int64)
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))
        self._by_name: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Blocks that nobody holds, named or not."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Hold ``count`` blocks whose content is nobody's. Raises MemoryError if there are not so many."""
        if count > len(self._free):
            raise MemoryError(f"{count} blocks are wanted, {len(self._free)} of {self.count} are free")
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
            if (name := self._names.pop(block, None)) is not None:
                del self._by_name[name]
        return taken

    def known(self, names: Sequence[bytes]) -> int:
        """How many of the first blocks named so are here."""
        for number, name in enumerate(names):
            if name not in self._by_name:
                return number
        return len(names)

    def share(self, names: Sequence[bytes]) -> list[int]:
        """Hold the blocks named so, which are all ``known``."""
        shared = [self._by_name[name] for name in names]
        for block in shared:
            if self._holders[block] == 0:
                del self._free[block]
            self._holders[block] += 1
        return shared

    def publish(self, table: Sequence[int], names: Sequence[bytes]) -> None:
        """Say what the first blocks of a ``table`` hold, now that it has been computed."""
        if self._reuse:
            for block, name in zip(table, names, strict=False):
                if name not in self._by_name and block not in self._names:
                    self._by_name[name], self._names[block] = block, name

    def release(self, table: Iterable[int]) -> None:
        """Let go. The last blocks of a sequence are used again first: beginnings are shared more often."""
        for block in reversed(list(table)):
            if self._holders[block] <= 0:
                raise ValueError(f"block {block} is released, but nobody holds it")
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free[block] = None
                if block not in self._names:
                    self._free.move_to_end(block, last=False)

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Raise AssertionError unless exactly the blocks of ``tables`` are held, each as often as it stands there."""
        held = np.zeros(self.count, np.int64)
        for table in tables:
            np.add.at(held, np.array(table, np.int64), 1)
        wrong = np.flatnonzero(held != self._holders)
        if len(wrong):
            block = int(wrong[0])
            raise AssertionError(f"block {block} has {self._holders[block]} holders, {held[block]} sequences have it")
        if (lost := set(self._free) ^ set(np.flatnonzero(held == 0).tolist())) != set():
            raise AssertionError(f"blocks {sorted(lost)[:5]} are neither free nor held, or both")
        if {self._by_name[name] for name in self._names.values()} != set(self._names):
            raise AssertionError("a name stands for another block than the one that bears it")
