"""More places to start from: decode groups of the clustered start joined into fewer, deeper pipelines.

The clustered start takes the smallest groups that hold the model, which leaves little memory for keys and values. Near
saturation decode wants deep pipelines instead, and a search that joins two groups a step is long on its way there.

The groups that lean to prefill most do it, as many as a split says; the others are joined. Joining the two smallest, again and
again, tells which splits promise most. For these a beam search goes through the joins of any two: of all arrangements of the
groups, those that closed forms put first are among the best in simulation as well, while they judge chance neighbours poorly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, together
from thunderserve.spec.plan import Phase

SPLITS, BEAM = 3, 4
"""Splits whose joins are searched, and arrangements of as many groups that are joined further."""
SEARCHED = 8
"""Decode groups, at most, whose joins are searched; of more the smallest are joined first."""
Promise = Callable[[Solution], Any]


def pipelined(
    groups: Sequence[Cards], leaning: Callable[[Cards], float], able: Callable[[Solution], bool], promise: Promise
) -> list[Solution]:
    """Arrangements of the groups that are ``able`` to serve, each once.

    ``leaning`` is larger for groups better at prefill than at decode; ``promise`` sorts the best arrangement first.
    """
    ranked = sorted(groups, key=lambda cards: (-leaning(cards), cards))
    chains = [_chain(ranked[:count], ranked[count:], able) for count in range(1, len(ranked))]
    best = sorted((chain for chain in chains if chain), key=lambda chain: min(map(promise, chain)))
    found = dict.fromkeys(one for chain in chains for one in chain)
    for chain in best[:SPLITS]:
        few = next((one for one in chain if len(_decoding(one)) <= SEARCHED), chain[-1])
        found.update(dict.fromkeys(_beam(few, able, promise)))
    return list(found)


def _chain(prefill: list[Cards], decode: list[Cards], able: Callable[[Solution], bool]) -> list[Solution]:
    """The two smallest decode groups joined, again and again, as long as that is able to serve."""
    found = []
    for joined in _joins(decode):
        one = canonical(
            [*(Group(Phase.PREFILL, cards) for cards in prefill), *(Group(Phase.DECODE, cards) for cards in joined)]
        )
        if not able(one):
            break  # what is too large stays too large
        found.append(one)
    return found


def _joins(groups: list[Cards]) -> Iterator[list[Cards]]:
    """The groups, then the two smallest of them joined, again and again until one is left."""
    while True:
        yield groups
        if len(groups) == 1:
            return
        first, second, *rest = sorted(groups, key=lambda cards: (sum(count for _, count in cards), cards))
        groups = [together(first, second), *rest]


def _beam(start: Solution, able: Callable[[Solution], bool], promise: Promise) -> Iterator[Solution]:
    """All that is looked at on the way from ``start`` to one decode group, of any two joined at a time."""
    level = [start]
    while level:
        best = sorted(level, key=promise)[:BEAM]
        level = [one for one in dict.fromkeys(joined for former in best for joined in _joined(former)) if able(one)]
        yield from level


def _joined(solution: Solution) -> Iterator[Solution]:
    """The solution with any two of its decode groups as one."""
    for a, b in combinations(_decoding(solution), 2):
        others = [group for place, group in enumerate(solution) if place not in (a, b)]
        yield canonical([*others, Group(Phase.DECODE, together(solution[a].cards, solution[b].cards))])


def _decoding(solution: Solution) -> list[int]:
    return [place for place, group in enumerate(solution) if group.phase is Phase.DECODE]
