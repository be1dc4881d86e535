"""More places to start from: decode groups of the clustered start joined into fewer, deeper pipelines.

The clustered start takes the smallest groups that hold the model, which leaves little memory for keys and values. Near
saturation decode wants deep pipelines instead, and a search that joins two groups a step is long on its way there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, together
from thunderserve.spec.plan import Phase


def pipelined(
    groups: Iterable[Cards], leaning: Callable[[Cards], float], feasible: Callable[[Solution], bool]
) -> list[Solution]:
    """All ``feasible`` splits of the groups, ordered by how they lean to prefill, with 0, 1, 2, ... joins on the decode side.

    ``leaning`` is larger for groups better at prefill than at decode. A join takes the two groups of fewest cards.
    """
    ranked = sorted(groups, key=lambda cards: (-leaning(cards), cards))
    found: dict[Solution, None] = {}
    for count in range(1, len(ranked)):
        prefill = [Group(Phase.PREFILL, cards) for cards in ranked[:count]]
        for decode in _joins(ranked[count:]):
            solution = canonical([*prefill, *(Group(Phase.DECODE, cards) for cards in decode)])
            if not feasible(solution):
                break  # what is too large stays too large
            found[solution] = None
    return list(found)


def _joins(groups: list[Cards]) -> Iterator[list[Cards]]:
    """The groups, then the two smallest of them joined, again and again until one is left."""
    while True:
        yield groups
        if len(groups) == 1:
            return
        first, second, *rest = sorted(groups, key=lambda cards: (sum(count for _, count in cards), cards))
        groups = [together(first, second), *rest]
