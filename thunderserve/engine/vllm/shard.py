"""Which layers and KV heads a rank holds, and who must send what to whom when two instances are cut differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Shard(NamedTuple):
    """Layers ``layers[0]`` to ``layers[1]`` (exclusive), of each the KV heads ``heads[0]`` to ``heads[1]``."""

    layers: tuple[int, int]
    heads: tuple[int, int]

    @property
    def size(self) -> int:
        """Layers times heads."""
        return (self.layers[1] - self.layers[0]) * (self.heads[1] - self.heads[0])

    def common(self, other: Shard) -> Shard | None:
        """What both hold; nothing if they share nothing."""
        layers = max(self.layers[0], other.layers[0]), min(self.layers[1], other.layers[1])
        heads = max(self.heads[0], other.heads[0]), min(self.heads[1], other.heads[1])
        return Shard(layers, heads) if layers[0] < layers[1] and heads[0] < heads[1] else None


class Rank(NamedTuple):
    """A rank of an instance that others can ask."""

    host: str
    port: int
    shard: Shard


class Kind(NamedTuple):
    """What must be equal on both sides: the model as far as its keys and values go."""

    layers: int
    heads: int
    head_dim: int
    dtype: str

    def differs(self, other: Kind) -> str:
        """In words; empty if nothing does."""
        pairs = zip(self._fields, self, other, strict=True)
        return ", ".join(f"{name} {theirs} there and {mine} here" for name, mine, theirs in pairs if mine != theirs)


def heads_of(rank: int, ranks: int, heads: int) -> tuple[int, int]:
    """KV heads of a tensor-parallel rank, as vLLM deals them out: in order, or replicated when there are more ranks than heads.

    Raises:
        ValueError: neither number divides the other.
    """
    if heads % ranks == 0:
        each = heads // ranks
        return rank * each, (rank + 1) * each
    if ranks % heads == 0:
        head = rank // (ranks // heads)
        return head, head + 1
    raise ValueError(f"{heads} KV heads cannot be dealt out to {ranks} tensor-parallel ranks")


def pieces(sources: Sequence[Rank], wanted: Shard) -> list[tuple[int, Shard]]:
    """Which source is asked for which part of ``wanted``; every layer of every head once.

    Raises:
        ValueError: the sources together do not have it.
    """
    found: list[tuple[int, Shard]] = []
    for number, source in enumerate(sources):
        part = source.shard.common(wanted)
        if part is not None and all(part.common(other) is None for _, other in found):
            found.append((number, part))
    if sum(part.size for _, part in found) != wanted.size:
        raise ValueError(f"the other instance's ranks do not have all of layers {wanted.layers}, heads {wanted.heads}")
    return found


def readers(sources: Sequence[Rank], readers_of: Sequence[Shard], source: int) -> int:
    """How many ranks will ask ``source`` for something."""
    return sum(any(number == source for number, _ in pieces(sources, shard)) for shard in readers_of)


def kind_from(data: Any) -> Kind:
    """The inverse of writing a kind as JSON. Raises TypeError, ValueError."""
    layers, heads, head_dim, dtype = data
    return Kind(int(layers), int(heads), int(head_dim), str(dtype))


def shard_from(data: Any) -> Shard:
    """The inverse of writing a shard as JSON. Raises TypeError, ValueError."""
    (first, last), (low, high) = data
    return Shard((int(first), int(last)), (int(low), int(high)))
