"""The last choice: the best solutions of a search on a longer, independent sample.

A search looks at hundreds of solutions on one short trace, so its best score is partly luck. The finalists are judged anew;
what the difference was is reported with the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.sample import draw
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.solution import Solution
from thunderserve.scheduler.tabu import Outcome

OTHER_SEED = 7919
"""Added to the planner's seed for the sample of the final round."""


@dataclass(frozen=True)
class Chosen:
    """The winner of the final round."""

    solution: Solution
    searched: Score
    """On the sample of the search."""
    judged: Score
    """On the longer one."""


def choose(problem: Problem, lower: Lower, found: Outcome[Solution, Score], *, requests: int, finalists: int) -> Chosen:
    """The best of the ``finalists`` highest scores on ``requests`` other requests."""
    ranked = sorted(found.known, key=lambda one: (found.known[one], one), reverse=True)[:finalists]
    simulation = judge(problem, lower, requests)
    judged = {solution: simulation(lower.needed(solution)) for solution in ranked}
    best = max(ranked, key=lambda one: _rank(judged[one]))
    return Chosen(best, found.known[best], judged[best])


def judge(problem: Problem, lower: Lower, requests: int) -> Simulation:
    """A simulation on ``requests`` requests that the search has not seen."""
    other = draw(problem, requests, 1, problem.seed + OTHER_SEED)
    sample = replace(lower.estimator.sample, trace=other.trace, limits=other.limits)
    return Simulation(lower.estimator.deduce, sample)


def _rank(score: Score) -> tuple[float, float, float]:
    """Attainments that a sample cannot tell apart are equal, so that capacity decides."""
    return round(score.attainment, 3), score.capacity_per_s, score.saved_per_hour
