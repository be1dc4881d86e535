"""All neighbours of a solution that a reader would name: what a search looks through when chance finds nothing better.

Two groups are put together and dealt out anew in every way that moves cards of a kind in pairs, in every phase; one group is cut
in two. That contains merges, flips, exchanges and moves. The few that lead on are rare among what ``moves`` draws (some are
one in thousands), and the closed forms, which judge neighbours drawn at random poorly, put them near the top of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product

import numpy as np

from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import Phases, replaced
from thunderserve.scheduler.solution import Cards, Group, Solution, serves, together, without

Rng = np.random.Generator
MOST, CLOSEST = 1500, 12
"""Of all neighbours of a solution, as many are estimated at most, and as many simulated."""


def looking_around(lower: Lower, phases: Phases) -> Callable[[Solution, Rng], list[Solution]]:
    """What finds the neighbours of a solution that are worth a simulation, by estimate."""

    def look(solution: Solution, rng: Rng) -> list[Solution]:
        near = around(solution, phases, MOST, rng)
        return lower.shortlist([one for one in near if lower.feasible(one)], CLOSEST)

    return look


def around(solution: Solution, phases: Phases, most: int, rng: Rng) -> list[Solution]:
    """Different neighbours that can serve, in order; of more than ``most`` so many, drawn. Groups may not hold the model."""
    found = list(dict.fromkeys(one for one in _all(solution, phases) if one != solution and serves(one)))
    if len(found) <= most:
        return found
    return [found[int(place)] for place in np.sort(rng.choice(len(found), most, replace=False))]


def _all(solution: Solution, phases: Phases) -> Iterator[Solution]:
    for size in (2, 1):
        for old in _once(solution, combinations(range(len(solution)), size)):
            whole = together(*(solution[place].cards for place in old))
            yield from (replaced(solution, old, (Group(phase, whole),)) for phase in phases)
            yield from _dealt(solution, old, whole, phases)


def _once(solution: Solution, places: Iterator[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Of places with equal groups the first."""
    seen = set()
    for some in places:
        groups = tuple(solution[place] for place in some)
        if groups not in seen:
            seen.add(groups)
            yield some


def _dealt(solution: Solution, old: tuple[int, ...], whole: Cards, phases: Phases) -> Iterator[Solution]:
    """Two groups of these cards in the place of the old ones, each cut and its mirror image once."""
    before = [dict(solution[place].cards) for place in old]
    numbers = [_numbers(count, {cards.get(kind, 0) for cards in before}) for kind, count in whole]
    for taken in product(*numbers):
        part = tuple((kind, count) for (kind, _), count in zip(whole, taken, strict=True) if count)
        rest = without(whole, part)
        if part and rest and part <= rest:
            for one, other in product(phases, phases):
                yield replaced(solution, old, (Group(one, part), Group(other, rest)))


def _numbers(count: int, before: set[int]) -> list[int]:
    """How many cards of a kind one side may get: all, none, as before, or what leaves it or the other an even number."""
    return sorted({0, count, *before, *range(0, count, 2), *range(count % 2, count, 2)})
