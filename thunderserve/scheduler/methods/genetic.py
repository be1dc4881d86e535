"""A genetic algorithm on groups: children inherit whole groups (Falkenauer's grouping genetic algorithm, 1992)."""

from __future__ import annotations

from dataclasses import dataclass

from thunderserve.scheduler.methods.ledger import Ledger, V
from thunderserve.scheduler.methods.space import Space
from thunderserve.scheduler.tabu import Rng, S


@dataclass(frozen=True)
class Genetic:
    """Steady state: each turn the most promising of a brood is scored and takes the place of the worst."""

    population: int = 16
    brood: int = 24
    """Children made a turn; those that pass the shortlist are scored."""
    mutation: float = 0.5
    """Chance that a child also makes a random move."""
    turns: int | None = None
    """None: until the search is stopped."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        # What a search before this one has found is there to breed from.
        ancestors = sorted(ledger.known, key=ledger.value, reverse=True)[: self.population // 2]
        alive = list(dict.fromkeys([start, *ancestors]))
        while len(alive) < self.population and ledger.goes_on():
            # Of the rest, half are mutants of the start, half strangers.
            near = space.neighbours(start, 1, rng) if len(alive) % 2 else []
            alive.append(near[0] if near else space.fresh(rng))
            ledger.score(alive[-1])
        turn = 0
        while turn != self.turns and ledger.goes_on():
            brood = [self._child(alive, space, ledger, rng) for _ in range(self.brood)]
            children = space.shortlist(list(dict.fromkeys(one for one in brood if one is not None)))
            ledger.highest([ledger.best, *children])
            grown = dict.fromkeys([*alive, *(one for one in children if one in ledger.known)])
            alive = sorted(grown, key=ledger.value, reverse=True)[: self.population]
            turn += 1

    def _child(self, alive: list[S], space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> S | None:
        mother, father = (self._parent(alive, ledger, rng) for _ in range(2))
        child = space.cross(mother, father, rng)
        if child is None or child in alive or rng.random() < self.mutation:
            near = space.neighbours(child or mother, 1, rng)
            return near[0] if near else child
        return child

    def _parent(self, alive: list[S], ledger: Ledger[S, V], rng: Rng) -> S:
        """The better of two."""
        a, b = (alive[int(rng.integers(len(alive)))] for _ in range(2))
        return a if ledger.value(a) >= ledger.value(b) else b
