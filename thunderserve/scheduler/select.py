"""The last choice: the best solutions of a search on requests that it has not seen.

A search looks at hundreds of solutions on the same requests, so its best score is partly luck. The finalists are judged on
samples of their own, and the one with the highest attainment on all that it has served wins: the mean over samples, each
with the weight of its requests. What the difference was is reported with the plan.

The best of them run for a second time with flows that simulation has corrected (``correct.py``), beside themselves: what a
correction makes worse is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from thunderserve.policy import Problem
from thunderserve.scheduler.correct import corrected
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.sample import further
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.solution import Solution

OTHER_SEEDS = (7919, 7927)
"""Added to the planner's seed for the samples of the final round."""


@dataclass(frozen=True)
class Chosen:
    """The winner of the final round."""

    estimate: Estimate
    """The solution with its flows."""
    searched: Score
    """On the requests of the search."""
    judged: Score
    """On the first sample of the final round."""


def never() -> bool:
    """The end of a round that may take its time."""
    return False


def choose(
    lower: Lower,
    found: Mapping[Solution, Score],
    last: Sequence[Simulation],
    *,
    finalists: int,
    corrections: int = 0,
    over: Callable[[], bool] = never,
) -> Chosen:
    """The best of the ``finalists`` highest scores, by the simulations of the last round and the search together.

    The ``corrections`` best of them run with corrected flows as well. Once ``over``, those not yet judged are left out.
    ``found`` are scores on all requests of ``lower``'s race.
    """
    judged: list[_Judged] = []
    for solution in sorted(found, key=lambda one: (found[one], one), reverse=True)[:finalists]:
        if judged and over():
            break
        judged.append(_judge(lower, lower.needed(solution), found[solution], last))
    longer = [simulation for simulation in [lower.race.long, *last] if simulation is not None]
    for one in sorted(judged, key=_rank, reverse=True)[:corrections]:
        if over():
            break
        estimate = corrected(one.chosen.estimate, longer)
        judged.append(_judge(lower, estimate, lower.race.whole(estimate), last))
    return max(judged, key=_rank).chosen


def last_round(problem: Problem, lower: Lower, requests: int) -> list[Simulation]:
    """Simulations on samples of ``requests`` requests that the search has not seen."""
    return [
        lower.simulation.on(further(problem, lower.estimator.sample, requests, problem.seed + seed))
        for seed in OTHER_SEEDS
    ]


class _Judged(NamedTuple):
    chosen: Chosen
    attainment: float
    """On all requests that it has served."""


def _judge(lower: Lower, estimate: Estimate, searched: Score, last: Sequence[Simulation]) -> _Judged:
    scores = [searched, *(simulation(estimate) for simulation in last)]
    weights = [lower.race.requests, *(len(simulation.sample.trace) for simulation in last)]
    mean = sum(one.attainment * weight for one, weight in zip(scores, weights, strict=True)) / sum(weights)
    return _Judged(Chosen(estimate, searched, scores[1]), mean)


def _rank(one: _Judged) -> tuple[float, float, float]:
    """Attainments that samples cannot tell apart are equal, so that capacity decides."""
    return round(one.attainment, 3), one.chosen.searched.capacity_per_s, one.chosen.searched.saved_per_hour
