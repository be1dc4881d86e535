"""Every solution of a small cluster, through the same lower level: the truth that the search is held against."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import Phases
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, serves, without

LARGEST = 10
"""Cards beyond which nobody would wait."""


def best_of_all(lower: Lower, phases: Phases) -> tuple[Solution, Score, int]:
    """(the best solution, its score, how many were scored). Raises ValueError for a large cluster, or one that cannot serve."""
    total = sum(lower.inventory.counts)
    if total > LARGEST:
        raise ValueError(f"{total} cards have too many partitions to try them all; {LARGEST} are the limit")
    best: tuple[Solution, Score] | None = None
    count = 0
    for solution in solutions(tuple(enumerate(lower.inventory.counts)), phases):
        if not lower.feasible(solution) or lower.estimate(solution) is None:
            continue
        score = lower.race.whole(lower.needed(solution))
        count += 1
        if best is None or score > best[1]:
            best = solution, score
    if best is None:
        raise ValueError(f"{lower.inventory.cluster.name} cannot serve in these phases")
    return *best, count


def solutions(cards: Cards, phases: Phases) -> Iterator[Solution]:
    """All canonical solutions, each once, in order."""
    found = {
        canonical(Group(phase, part) for phase, part in zip(chosen, parts, strict=True))
        for parts in partitions(cards)
        for chosen in product(phases, repeat=len(parts))
    }
    yield from (one for one in sorted(found) if serves(one))


def partitions(cards: Cards) -> Iterator[tuple[Cards, ...]]:
    """All ways to put the cards into groups, as sorted tuples, each once."""
    yield from _partitions(cards, ())


def _partitions(cards: Cards, least: Cards) -> Iterator[tuple[Cards, ...]]:
    """Partitions into parts that are no less than ``least``."""
    if not cards:
        yield ()
        return
    for part in parts_of(cards):
        if part >= least:
            for rest in _partitions(without(cards, part), part):
                yield (part, *rest)


def parts_of(cards: Cards) -> Iterator[Cards]:
    """All parts of the cards but the empty one."""
    for counts in product(*(range(count + 1) for _, count in cards)):
        part = tuple((kind, taken) for (kind, _), taken in zip(cards, counts, strict=True) if taken)
        if part:
            yield part
