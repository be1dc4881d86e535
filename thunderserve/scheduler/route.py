"""The order of pipeline stages: dynamic programming over the bandwidth matrix (the paper, second-hand).

Stages of one kind are equal here, so the state is how many of each kind have been passed and where the path stands: the
count form of Held and Karp's algorithm, O(K^2 prod(n_k + 1)) for n_k stages of K kinds, as HexGen's DP counts. Compiled, for
every group of several kinds asks for it. (A kind's stages need not follow one another: rented links are so uneven that the
way over a third node is often shorter.)
"""

from __future__ import annotations

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.serving.compile import jit


@jit
def best_order(counts: Ints, hop_s: Floats) -> tuple[Ints, float]:
    """The order of kinds, each repeated ``counts`` (K,) times, with the least sum of hops ``hop_s`` (K, K), and that sum.

    Deterministic: of equal orders always the same one.
    """
    kinds, states = len(counts), 1
    stride = np.empty(kinds, np.int64)
    for kind in range(kinds):
        stride[kind] = states
        states *= counts[kind] + 1
    cost, before = np.full((states, kinds), np.inf), np.zeros((states, kinds), np.int64)
    for kind in range(kinds):
        if counts[kind] > 0:
            cost[stride[kind], kind] = 0.0
    for state in range(states):  # a longer path always has a higher number
        for last in range(kinds):
            if cost[state, last] < np.inf:
                for kind in range(kinds):
                    if (state // stride[kind]) % (counts[kind] + 1) < counts[kind]:
                        after, total = state + stride[kind], cost[state, last] + hop_s[last, kind]
                        if total < cost[after, kind]:
                            cost[after, kind] = total
                            before[after, kind] = last
    return _read_back(counts, stride, cost[states - 1], before)


@jit
def _read_back(counts: Ints, stride: Ints, cost: Floats, before: Ints) -> tuple[Ints, float]:
    """The path to the full state with the least cost, and that cost."""
    length, state, kind = 0, len(before) - 1, 0
    for one in range(len(counts)):
        length += counts[one]
        if cost[one] < cost[kind]:
            kind = one
    path, best = np.empty(length, np.int64), float(cost[kind])
    for place in range(length - 1, -1, -1):
        path[place] = kind
        state, kind = state - stride[kind], before[state, kind]
    return path, best
