"""How far the load could rise: what tells apart plans that all meet their limits at the load that was asked for.

The objective is SLO attainment, and ties go to the higher throughput (the paper, second-hand). At a load that most plans carry
with ease nearly all are tied, and capacity in closed form, which knows no queues, ranks them poorly. So throughput is
simulated: it is the highest rate at which a plan keeps nine of ten requests within their limits, which is what goodput
is commonly quoted at (DistServe, OSDI 2024). And a search among plans that all attain everything has nothing to go by, so
it runs at a load under which its best start does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thunderserve.scheduler.decompose import at_share
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.score import Simulation
from thunderserve.scheduler.solution import Solution

WANTED = 0.9
"""Attainment that a plan has to keep."""
CALM = 0.99
"""Attainment of a start from which a search has little to gain at the load that was asked for."""
LIFTED = 0.8
"""Attainment of the best start at the load of the search."""
STRIDE = 1.25
"""Ratio of the loads that are tried until one is too much; halved ``HALVINGS`` times after that, to within 0.7 %."""
HALVINGS = 5
MOST = 1000.0
"""Highest multiple of the load that is tried."""


def headroom(
    simulations: Sequence[Simulation], estimate: Estimate, *, least: float = 1.0, wanted: float = WANTED
) -> float:
    """The highest multiple of the load at which ``wanted`` of all requests meet their limits; 0 if not even ``least`` is one.

    The requests and the shares of flows stay the same; they only come faster.
    """

    def keeps(multiple: float) -> bool:
        return _attainment(simulations, estimate, multiple) >= wanted

    low = least
    if not keeps(low):
        return 0.0
    while low < MOST and keeps(low * STRIDE):
        low *= STRIDE
    ratio = STRIDE
    for _ in range(HALVINGS):
        ratio **= 0.5
        if keeps(low * ratio):
            low *= ratio
    return low


def lifted(
    lower: Lower, starts: Sequence[Solution], over: Callable[[], bool], least: float = 1.0
) -> tuple[Lower, float]:
    """The lower level at the load to search at, and the multiple of the asked one that it is: ``least`` or more.

    That is the load asked for, unless a start meets the limits of nearly all requests there.
    """
    calm = [one for one in starts if _calm(lower, lower.needed(one))]
    longer = lower.race.long or lower.race.short
    multiple = least
    for one in calm:
        if over():
            break
        multiple = max(multiple, headroom([longer], lower.needed(one), least=multiple, wanted=LIFTED))
    return (at_share(lower, multiple), multiple) if multiple > 1 else (lower, 1.0)


def _calm(lower: Lower, estimate: Estimate) -> bool:
    """Whether nearly all requests of both traces meet their limits: the short one, which ends before queues grow, is kind."""
    return lower.simulation.attainment(estimate) >= CALM and lower.race.whole(estimate).attainment >= CALM


def _attainment(simulations: Sequence[Simulation], estimate: Estimate, multiple: float) -> float:
    """On the requests of all, which come ``multiple`` times as fast."""
    met = sum(len(one.sample.trace) * one.at(multiple).attainment(estimate) for one in simulations)
    return met / sum(len(one.sample.trace) for one in simulations)
