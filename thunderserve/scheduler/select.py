"""The last choice: the best solutions of a search on requests that it has not seen.

A search looks at hundreds of solutions on the same requests, so its best score is partly luck. The finalists are judged on
samples of their own, and the one with the highest attainment on all that it has served wins: the mean over samples, each
with the weight of its requests. What the difference was is reported with the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.sample import further
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.solution import Solution

OTHER_SEEDS = (7919, 7927)
"""Added to the planner's seed for the samples of the final round."""


@dataclass(frozen=True)
class Chosen:
    """The winner of the final round."""

    solution: Solution
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
    over: Callable[[], bool] = never,
) -> Chosen:
    """The best of the ``finalists`` highest scores, by the simulations of the last round and the search together.

    Once ``over``, those not yet judged are left out. ``found`` are scores on all requests of ``lower``'s race.
    """
    judged: dict[Solution, list[Score]] = {}
    for solution in sorted(found, key=lambda one: (found[one], one), reverse=True)[:finalists]:
        if judged and over():
            break
        judged[solution] = [simulation(lower.needed(solution)) for simulation in last]
    weights = [lower.race.requests, *(len(simulation.sample.trace) for simulation in last)]
    best = max(judged, key=lambda one: _rank([found[one], *judged[one]], weights))
    return Chosen(best, found[best], judged[best][0])


def last_round(problem: Problem, lower: Lower, requests: int) -> list[Simulation]:
    """Simulations on samples of ``requests`` requests that the search has not seen."""
    return [
        lower.simulation.on(further(problem, lower.estimator.sample, requests, problem.seed + seed))
        for seed in OTHER_SEEDS
    ]


def _rank(scores: Sequence[Score], weights: Sequence[int]) -> tuple[float, float, float]:
    """Attainments that samples cannot tell apart are equal, so that capacity decides."""
    mean = sum(one.attainment * weight for one, weight in zip(scores, weights, strict=True)) / sum(weights)
    return round(mean, 3), scores[0].capacity_per_s, scores[0].saved_per_hour
