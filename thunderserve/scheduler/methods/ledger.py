"""Counts what a search scores, so that methods can be compared at equal evaluations and at equal seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from thunderserve.scheduler.stops import Progress, Stop
from thunderserve.scheduler.tabu import Comparable, Objective, Outcome, S

V = TypeVar("V", bound=Comparable)


class Entry(NamedTuple, Generic[V]):
    """The best score after one more evaluation."""

    scored: int
    elapsed_s: float
    best: V


@dataclass
class Ledger(Generic[S, V]):
    """The memo of one search: a solution is scored, and counted, once, whichever method asks, and however often."""

    objective: Objective[S, V]
    stop: Stop
    worth: Callable[[V], float]
    """A score as one number, in the same order, for methods that weigh differences."""
    clock: Callable[[], float] = time.perf_counter
    known: dict[S, V] = field(default_factory=dict)
    history: list[Entry[V]] = field(default_factory=list)
    turns: int = 0
    _best: S | None = None
    _best_turn: int = 0
    _began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._began_s = self.clock()

    @property
    def best(self) -> S:
        """The best solution so far. Raises ValueError before the first."""
        if self._best is None:
            raise ValueError("nothing has been scored yet")
        return self._best

    def score(self, solution: S) -> V:
        """The objective."""
        if solution not in self.known:
            value = self.known[solution] = self.objective(solution)
            if self._best is None or value > self.known[self._best]:
                self._best, self._best_turn = solution, self.turns
            self.history.append(Entry(len(self.known), self.clock() - self._began_s, self.known[self._best]))
        return self.known[solution]

    def value(self, solution: S) -> float:
        """The objective as one number."""
        return self.worth(self.score(solution))

    def highest(self, solutions: Sequence[S]) -> S:
        """The first of the best of these. Those that come after the search has ended are not scored anew."""
        best = solutions[0]
        self.score(best)
        for one in solutions[1:]:
            if (one in self.known or not self.full) and self.score(one) > self.score(best):
                best = one
        return best

    @property
    def full(self) -> bool:
        """Whether the search has to end."""
        since = self.turns - self._best_turn
        best = self.known[self.best]
        return self.stop(Progress(self.turns, len(self.known), self.clock() - self._began_s, since, best))

    def goes_on(self) -> bool:
        """Ask before each turn: False ends the search; True counts the turn."""
        if self.full:
            return False
        self.turns += 1
        return True

    def outcome(self) -> Outcome[S, V]:
        """What was found."""
        elapsed_s = self.clock() - self._began_s
        return Outcome(self.best, self.known[self.best], self.turns, len(self.known), elapsed_s, self.known)


def after_scored(count: int) -> Stop:
    """Stop after this many evaluations. Join it with another stop: a small space may not hold as many solutions."""
    return lambda progress: progress.scored >= count
