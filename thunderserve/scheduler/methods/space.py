"""The Protocol of all search methods, and what they may know of the space they search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from thunderserve.scheduler.methods.ledger import Ledger, V
from thunderserve.scheduler.stops import Stop
from thunderserve.scheduler.tabu import Around, Neighbours, Objective, Outcome, Rng, S, Shortlist


@dataclass(frozen=True)
class Space(Generic[S, V]):
    """What can be searched, and how it is scored. A method uses what suits it."""

    objective: Objective[S, V]
    worth: Callable[[V], float]
    """A score as one number, in the same order."""
    neighbours: Neighbours[S]
    shortlist: Shortlist[S]
    """Drops candidates that a cheap estimate rules out; they do not count as evaluations, but take their seconds."""
    around: Around[S] | None
    """All neighbours of a solution that are worth scoring, for a method that looks at them all; None: too many to."""
    fresh: Callable[[Rng], S]
    """A random solution."""
    cross: Callable[[S, S, Rng], S | None]
    """A child of two solutions; None if they do not fit."""
    choices: tuple[int, ...]
    """How many values each position of a solution's code has: the view of methods that know numbers only."""
    decode: Callable[[Sequence[int]], S | None]
    """The solution of a code; None if there is none."""
    traits: Callable[[S], Any]
    """(F,) numbers that describe a solution without scoring or estimating it, of like size on clusters of any size."""

    def candidates(self, solution: S, count: int, rng: Rng) -> Sequence[S]:
        """The neighbours, of ``count``, that are worth scoring."""
        return self.shortlist(self.neighbours(solution, count, rng))


class Method(Protocol):
    """One way to search: a frozen dataclass of its parameters, free of the space and the objective."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """Score solutions through ``ledger``, beginning with ``start``, while ``ledger.goes_on()``."""


def improve(
    method: Method,
    start: S,
    space: Space[S, V],
    stop: Stop,
    rng: Rng,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Outcome[S, V], Ledger[S, V]]:
    """The best that ``method`` finds from ``start``, and the ledger of how it got there."""
    ledger = Ledger(space.objective, stop, space.worth, clock)
    ledger.score(start)
    method(start, space, ledger, rng)
    return ledger.outcome(), ledger
