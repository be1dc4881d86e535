"""The last choice: the best solutions of a search on requests that it has not seen.

A search looks at hundreds of solutions on the same requests, so its best score is partly luck. The finalists are judged on
samples of their own, and the one with the highest attainment on all that it has served wins: the mean over samples, each
with the weight of its requests. What the difference was is reported with the plan.

The best of them run for a second time with flows that simulation has corrected (``correct.py``), beside themselves: what a
correction makes worse is not taken.

Those whose attainments samples cannot tell apart are told apart by how far the load could rise (``headroom.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from thunderserve.policy import Problem
from thunderserve.scheduler.correct import corrected
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.headroom import WANTED, headroom
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.sample import further
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.solution import Solution

OTHER_SEEDS = (7919, 7927)
"""Added to the planner's seed for the samples of the final round."""
APART = 0.002
"""Attainments that samples of some thousand requests cannot tell apart."""


@dataclass(frozen=True)
class Judged:
    """A finalist."""

    estimate: Estimate
    """The solution with its flows."""
    searched: Score
    """On the requests of the search."""
    judged: Score
    """On the first sample of the final round."""
    attainment: float
    """On all requests that it has served."""
    headroom: float | None = None
    """The highest multiple of the load at which it keeps nine of ten requests within their limits; None: never asked."""


def never() -> bool:
    """The end of a round that may take its time."""
    return False


def judged(
    lower: Lower,
    found: Mapping[Solution, Score],
    last: Sequence[Simulation],
    *,
    finalists: int,
    corrections: int = 0,
    over: Callable[[], bool] = never,
) -> list[Judged]:
    """The ``finalists`` highest scores, by the simulations of the last round and the search together.

    The ``corrections`` best of them run with corrected flows as well. Once ``over``, those not yet judged are left out.
    ``found`` are scores on all requests of ``lower``'s race.
    """
    known: list[Judged] = []
    for solution in sorted(found, key=lambda one: (found[one], one), reverse=True)[:finalists]:
        if known and over():
            break
        known.append(judge(lower, lower.needed(solution), found[solution], last))
    longer = [simulation for simulation in [lower.race.long, *last] if simulation is not None]
    for one in sorted(known, key=_rank, reverse=True)[:corrections]:
        if over():
            break
        estimate = corrected(one.estimate, longer)
        known.append(judge(lower, estimate, lower.race.whole(estimate), last))
    return known


def largest(known: Sequence[Judged]) -> Judged:
    """The highest attainment; of those that samples cannot tell apart, the one with the highest capacity in closed form."""
    return max(known, key=_rank)


def judged_again(
    lower: Lower, estimates: Iterable[Estimate], last: Sequence[Simulation], over: Callable[[], bool] = never
) -> list[Judged]:
    """Estimates with flows of another load, judged at that of ``lower`` and ``last``."""
    known: list[Judged] = []
    for one in estimates:
        if known and over():
            break
        # What closed forms expect depends on the load; the flows are those that were found.
        estimate = replace(one, attainment=lower.needed(one.solution).attainment)
        known.append(judge(lower, estimate, lower.race.whole(estimate), last))
    return known


def farthest(
    known: Sequence[Judged], last: Sequence[Simulation], *, over: Callable[[], bool] = never, always: bool = False
) -> Judged:
    """The highest attainment; of those that samples cannot tell from it, the one under which the load could rise farthest.

    Once ``over``, capacity in closed form decides among those not yet asked. A single one is asked if ``always``.
    """
    top = max(one.attainment for one in known)
    tied = sorted((one for one in known if one.attainment >= top - APART), key=_rank, reverse=True)
    best = tied[0]
    if top < WANTED or (len(tied) == 1 and not always):
        return best
    for one in tied:
        if over():
            break
        reach = headroom(last, one.estimate, least=best.headroom or 1.0)
        if best.headroom is None or (reach, one.judged.saved_per_hour) > (best.headroom, best.judged.saved_per_hour):
            best = replace(one, headroom=reach)
    return best


def last_round(problem: Problem, lower: Lower, requests: int) -> list[Simulation]:
    """Simulations on samples of ``requests`` requests that the search has not seen."""
    return [
        lower.simulation.on(further(problem, lower.estimator.sample, requests, problem.seed + seed))
        for seed in OTHER_SEEDS
    ]


def judge(lower: Lower, estimate: Estimate, searched: Score, last: Sequence[Simulation]) -> Judged:
    """A finalist with these flows, which has ``searched`` on the requests of the race."""
    scores = [searched, *(simulation(estimate) for simulation in last)]
    weights = [lower.race.requests, *(len(simulation.sample.trace) for simulation in last)]
    mean = sum(one.attainment * weight for one, weight in zip(scores, weights, strict=True)) / sum(weights)
    return Judged(estimate, searched, scores[1], mean)


def _rank(one: Judged) -> tuple[float, float, float]:
    """Attainments that samples cannot tell apart are equal, so that capacity decides."""
    return round(one.attainment, 3), one.searched.capacity_per_s, one.searched.saved_per_hour
