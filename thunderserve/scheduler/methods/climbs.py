"""Local search: the tabu search of the paper, hill climbing from many starts, and simulated annealing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thunderserve.scheduler.methods.ledger import Ledger, V
from thunderserve.scheduler.methods.space import Space
from thunderserve.scheduler.tabu import DEFAULT_PARAMETERS, Parameters, Rng, S, tabu_search


@dataclass(frozen=True)
class Tabu:
    """The search of ``thunderserve.scheduler.tabu`` as it stands."""

    parameters: Parameters = DEFAULT_PARAMETERS
    turns: int | None = None
    """Steps; None: until the search is stopped."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        tabu_search(
            [start],
            space.neighbours,
            ledger.score,
            lambda progress: progress.step == self.turns or not ledger.goes_on(),
            parameters=self.parameters,
            rng=rng,
            shortlist=space.shortlist,
            around=space.around,
        )


@dataclass(frozen=True)
class MultiStart:
    """Climb to the best of the sampled neighbours; start afresh, at random, where none is better."""

    neighbours: int = 24
    patience: int = 3
    """Samples without a better neighbour that make a peak."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        current, failed = start, 0
        while ledger.goes_on():
            if failed >= self.patience:
                current, failed = space.fresh(rng), 0
            best = ledger.highest([current, *space.candidates(current, self.neighbours, rng)])
            failed = 0 if best != current else failed + 1
            current = best


@dataclass(frozen=True)
class Annealing:
    """Simulated annealing (Kirkpatrick et al., Science 1983): cools geometrically, then reheats at the best solution."""

    neighbours: int = 8
    """Sampled a turn; one of those that pass the shortlist is scored."""
    hot: float = 0.02
    """Loss of worth accepted once in e times at first."""
    cold: float = 5e-4
    turns: int = 200
    """From hot to cold."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        current, turn = start, 0
        while ledger.goes_on():
            if turn == self.turns:
                current, turn = ledger.best, 0
            options = space.candidates(current, self.neighbours, rng)
            heat = self.hot * (self.cold / self.hot) ** (turn / self.turns)
            turn += 1
            if options:
                option = options[int(rng.integers(len(options)))]
                current = option if accepted(ledger.value(option) - ledger.value(current), heat, rng) else current


@dataclass(frozen=True)
class AnnealedTabu:
    """Tabu search whose steps to worse solutions are accepted as in simulated annealing, at constant heat."""

    neighbours: int = 24
    tenure: int = 12
    heat: float = 0.005
    patience: int = 15
    """Turns without gain after which it goes back to the best."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        current, tabu, stale = start, [start], 0
        while ledger.goes_on():
            best = ledger.best
            if stale >= self.patience:
                current, stale = best, 0
            options = [one for one in space.candidates(current, self.neighbours, rng) if one not in tabu]
            if options:
                option = ledger.highest(options)
                if accepted(ledger.value(option) - ledger.value(current), self.heat, rng):
                    current, tabu = option, [*tabu, option][-self.tenure :]
            stale = 0 if ledger.best != best else stale + 1


def accepted(gain: float, heat: float, rng: Rng) -> bool:
    """Metropolis: always if better, else with probability exp(gain / heat)."""
    return gain >= 0 or bool(rng.random() < np.exp(gain / heat))
