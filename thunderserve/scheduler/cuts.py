"""The best of many ways to cut a group into stages, in one compiled call: order, layers and worth of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.scheduler.route import best_order
from thunderserve.scheduler.stage_table import StageTable
from thunderserve.scheduler.weigh import weigh_decode, weigh_prefill
from thunderserve.serving.compile import jit

MAX_STAGES = 8
"""Stages of a pipeline over several kinds, unless the model fits no shorter one."""


class Cuts(NamedTuple):
    """C cuts of one group of K kinds, shortest first. Stages are listed cut by cut and kind by kind, N in all."""

    first: Ints  # (C + 1,) where the stages of each cut begin
    kind: Ints  # (N,) number of the kind within the group
    row: Ints  # (N,) class of the stage


class Paths(NamedTuple):
    """Hops between the K kinds of a group, (K, K) each."""

    hop_s: Floats
    """What the order is chosen by."""
    latency_s: Floats
    s_per_token: Floats


class Need(NamedTuple):
    """What the group is for."""

    decode: bool
    num_layers: int
    tokens: float
    """KV tokens that must fit."""
    prompt: float
    context: float
    limit_s: float


@jit
def best_cut(table: StageTable, cuts: Cuts, paths: Paths, need: Need, stages: Ints, layers: Ints) -> int:
    """The number of the best cut, or -1 if none holds the model.

    Fills ``stages`` (places in the lists of ``cuts``, in the order of the pipeline) and ``layers``.
    """
    best, first_value, second_value = -1, -np.inf, -np.inf
    kinds = len(paths.hop_s)
    for cut in range(len(cuts.first) - 1):
        count = cuts.first[cut + 1] - cuts.first[cut]
        if kinds > 1 and best >= 0 and count > MAX_STAGES:
            break
        order = _ordered(cuts, cut, paths.hop_s)
        trial = np.zeros(count, np.int64)
        first, second = _weighed(table, cuts, order, paths, need, trial)
        if first > first_value or (first == first_value > -np.inf and second > second_value):
            best, first_value, second_value = cut, first, second
            for place in range(count):
                stages[place], layers[place] = order[place], trial[place]
    return best


@jit
def _ordered(cuts: Cuts, cut: int, hop_s: Floats) -> Ints:
    """The stages of a cut in the order with the least hops."""
    start, stop = cuts.first[cut], cuts.first[cut + 1]
    order = np.arange(start, stop)
    if cuts.kind[start] == cuts.kind[stop - 1]:
        return order
    counts, upcoming = np.zeros(len(hop_s), np.int64), np.zeros(len(hop_s), np.int64)
    for place in range(start, stop):
        if counts[cuts.kind[place]] == 0:
            upcoming[cuts.kind[place]] = place
        counts[cuts.kind[place]] += 1
    path, _ = best_order(counts, hop_s)
    for place in range(stop - start):
        order[place] = upcoming[path[place]]
        upcoming[path[place]] += 1
    return order


@jit
def _weighed(table: StageTable, cuts: Cuts, order: Ints, paths: Paths, need: Need, layers: Ints) -> tuple[float, float]:
    """What is larger is better; minus infinity where the model does not fit."""
    rows = np.empty(len(order), np.int64)
    alpha_s, s_per_token = 0.0, 0.0
    for place in range(len(order)):
        rows[place] = cuts.row[order[place]]
        if place > 0:
            a, b = cuts.kind[order[place - 1]], cuts.kind[order[place]]
            alpha_s += paths.latency_s[a, b]
            s_per_token += paths.s_per_token[a, b]
    if need.decode:
        hops_s = np.empty(len(table.batches))
        for g in range(len(hops_s)):
            hops_s[g] = alpha_s + s_per_token * table.batches[g]
        rate = weigh_decode(table, rows, need.num_layers, need.tokens, hops_s, need.context, need.limit_s, layers)
        return rate, 0.0
    latency_s, busy_s = weigh_prefill(
        table, rows, need.num_layers, need.tokens, alpha_s + s_per_token * need.prompt, layers
    )
    return -latency_s, -busy_s
