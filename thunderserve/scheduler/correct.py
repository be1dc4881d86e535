"""Flows corrected by simulation: shares move from replicas whose requests miss their limits to those whose requests do not.

The linear program takes capacities from closed forms. Where these misjudge a replica, it gets too much or too little, and
simulation shows which. A late first token counts against the prefill replica, late tokens after it against the decode
replica. Multiplicative weights (Arora, Hazan and Kale, 2012): a share is multiplied by exp(-rate x what its two replicas miss
more than all do); the rate falls from round to round. Rounds take the simulations in turn, and the answer is the mean of
the later half: shares that suit one trace by luck do not last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.score import Misses, Simulation

ROUNDS = 6
"""Simulations of a correction."""
RATE, DECAY = 1.5, 0.8
"""How strongly the first round corrects, and each later one relative to the one before."""


def corrected(estimate: Estimate, simulations: Sequence[Simulation], rounds: int = ROUNDS) -> Estimate:
    """The same solution with corrected shares. Whether they are better is for the caller to simulate."""
    source = np.array([arc.prefill for arc in estimate.arcs])
    target = np.array([arc.decode for arc in estimate.arcs])
    shares = np.array([arc.share for arc in estimate.arcs])
    later = []
    for number in range(rounds):
        simulation = simulations[number % len(simulations)]
        misses = simulation.misses(_with_shares(estimate, shares))
        excess = missed_by_arc(misses, source, target)
        shares = shares * np.exp(-RATE * DECAY**number * (excess - shares @ excess))
        shares /= shares.sum()
        if number >= rounds // 2:
            later.append(shares)
    return _with_shares(estimate, np.mean(later, axis=0))


def missed_by_arc(misses: Misses, source: Ints, target: Ints) -> Floats:
    """(A,) what the prefill replica ``source`` of each arc missed of all it served, and its decode replica ``target``."""
    served = misses.prefill >= 0
    late = _share_of(misses.late[served], misses.prefill[served], int(source.max()))
    slow = _share_of((misses.slow & ~misses.late)[served], misses.decode[served], int(target.max()))
    return late[source] + slow[target]


def _share_of(missed: NDArray[np.bool_], replica: Ints, last: int) -> Floats:
    """(last + 1,) share of its requests that each replica missed; 0 of none."""
    served = np.bincount(replica, minlength=last + 1)
    share: Floats = np.bincount(replica[missed], minlength=last + 1) / np.maximum(served, 1)
    return share


def _with_shares(estimate: Estimate, shares: Floats) -> Estimate:
    arcs = zip(estimate.arcs, shares.tolist(), strict=True)
    return replace(estimate, arcs=tuple(replace(arc, share=share) for arc, share in arcs))
