"""The upper level's solution: a partition of the cards into groups, and a phase a group (the paper, second-hand).

A group counts its cards by kind, and groups are kept sorted: two partitions that differ only by equal cards of a node, or by
the order of groups, are the same value, so nothing is scored twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from thunderserve.scheduler.inventory import Inventory
from thunderserve.spec.plan import Phase

Cards = tuple[tuple[int, int], ...]
"""(kind, number of cards), kinds ascending, numbers positive."""


class Group(NamedTuple):
    """The cards of one replica and what it serves."""

    phase: Phase
    cards: Cards

    @property
    def size(self) -> int:
        """Number of cards."""
        return sum(count for _, count in self.cards)


Solution = tuple[Group, ...]
"""Sorted groups that together use every card exactly once."""


def canonical(groups: Iterable[Group]) -> Solution:
    """The one form of these groups."""
    return tuple(sorted(groups))


def cards_of(counts: Counter[int]) -> Cards:
    """Counts by kind as a value."""
    return tuple(sorted((kind, count) for kind, count in counts.items() if count > 0))


def together(*parts: Cards) -> Cards:
    """All cards of the parts."""
    total: Counter[int] = Counter()
    for part in parts:
        for kind, count in part:
            total[kind] += count
    return cards_of(total)


def without(cards: Cards, taken: Cards) -> Cards:
    """What is left of ``cards``. Raises ValueError if more is taken than there is."""
    left = Counter(dict(cards))
    for kind, count in taken:
        left[kind] -= count
        if left[kind] < 0:
            raise ValueError(f"{count} cards of kind {kind} cannot be taken from {cards}")
    return cards_of(left)


def solution_of(inventory: Inventory, groups: Iterable[tuple[Phase, Iterable[int]]]) -> Solution:
    """The solution that a partition by card ids stands for."""
    kinds = inventory.kind_of
    return canonical(Group(phase, cards_of(Counter(kinds[device] for device in devices))) for phase, devices in groups)


def serves(solution: Solution) -> bool:
    """Whether requests can pass: a prefill and a decode group, or a colocated one."""
    phases = {group.phase for group in solution}
    return Phase.BOTH in phases or phases >= {Phase.PREFILL, Phase.DECODE}
