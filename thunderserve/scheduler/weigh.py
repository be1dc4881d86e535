"""Weighs one ordered list of stages: the best layers for a phase, and how good the result is. Compiled.

Prefill: the least mean latency. Decode: the most tokens a second within the TPOT limit (the paper, second-hand). With S stages a
replica runs S batches at once, one a lane, so a sequence's tokens are ``max(latency, S * slowest stage)`` apart.
"""

from __future__ import annotations

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.scheduler.layers import balance, holds, room_for_layers, tokens_beside
from thunderserve.scheduler.stage_table import StageTable
from thunderserve.serving.compile import jit

KV_SHARES = np.array([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
"""Decode: how much of the KV that could fit at best is kept free while layers are balanced by speed."""


@jit
def weigh_prefill(
    table: StageTable, stages: Ints, num_layers: int, tokens: float, hops_s: float, layers: Ints
) -> tuple[float, float]:
    """(mean latency, mean seconds on the slowest stage) with ``layers`` filled in; infinite if it does not fit.

    ``stages`` (S,) classes in order; ``tokens`` of KV must fit; ``hops_s`` for the mean prompt.
    """
    count, requests = len(stages), table.prompt_layer_s.shape[1]
    layer_s, fixed_s, most = np.empty(count), np.empty(count), np.empty(count, np.int64)
    for s in range(count):
        row = stages[s]
        fixed_s[s], layer_s[s] = 0.0, 0.0
        for r in range(requests):
            layer_s[s] += table.prompt_layer_s[row, r] / requests
            fixed_s[s] += table.prompt_once_s[row, r] / requests
            if s == 0:
                fixed_s[s] += table.prompt_first_s[row, r] / requests
            if s == count - 1:
                fixed_s[s] += table.prompt_last_s[row, r] / requests
    usable, fixed, layer, kv = memory_of(table, stages)
    room_for_layers(usable, fixed, layer, kv, tokens, most)
    if not balance(layer_s, fixed_s, most, num_layers, layers):
        return np.inf, np.inf
    latency_s, slowest_s = hops_s, 0.0
    for s in range(count):
        stage_s = fixed_s[s] + layers[s] * layer_s[s]
        latency_s += stage_s
        slowest_s = max(slowest_s, stage_s)
    return latency_s, slowest_s


@jit
def memory_of(table: StageTable, stages: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """(usable, fixed, a layer, KV of a token and layer), each (S,) bytes of one card."""
    count = len(stages)
    usable, fixed, layer, kv = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for s in range(count):
        row = stages[s]
        usable[s], layer[s], kv[s] = table.usable_bytes[row], table.layer_bytes[row], table.kv_bytes[row]
        fixed[s] = table.fixed_bytes[row, (1 if s == 0 else 0) + (2 if s == count - 1 else 0)]
    return usable, fixed, layer, kv


@jit
def most_tokens(usable: Floats, fixed: Floats, layer: Floats, kv: Floats, num_layers: int, need: float) -> float:
    """The most KV tokens that any layers leave room for; negative if not even ``need`` fit. Bisection to 1 %."""
    if not holds(usable, fixed, layer, kv, num_layers, need):
        return -1.0
    low, high = need, need + 1.0
    for s in range(len(usable)):
        high += usable[s] / kv[s]
    while high > 1.01 * low + 1:
        middle = 0.5 * (low + high)
        if holds(usable, fixed, layer, kv, num_layers, middle):
            low = middle
        else:
            high = middle
    return low


@jit
def cycles(table: StageTable, stages: Ints, layers: Ints, hops_s: Floats, cycle: Floats) -> None:
    """Fill ``cycle`` (G,): seconds between two tokens of a sequence when every lane decodes a batch of the grid."""
    count = len(stages)
    for g in range(len(table.batches)):
        latency_s, slowest_s = hops_s[g], 0.0
        for s in range(count):
            row = stages[s]
            stage_s = table.decode_once_s[row, g] + layers[s] * table.decode_layer_s[row, g]
            stage_s += table.decode_first_s[row, g] if s == 0 else 0.0
            stage_s += table.decode_last_s[row, g] if s == count - 1 else 0.0
            latency_s += stage_s
            slowest_s = max(slowest_s, stage_s)
        cycle[g] = max(latency_s, count * slowest_s)


@jit
def countable(fitting: float) -> float:
    """Of n mean sequences that fit into KV, n - sqrt(n) are counted on: a replica whose KV runs full preempts, and computes
    anew what it had, and the tokens in its cache vary like a Poisson variable.
    """
    return float(max(fitting - np.sqrt(fitting), min(fitting, 1.0)))


@jit
def decode_curve(
    table: StageTable,
    stages: Ints,
    layers: Ints,
    hops_s: Floats,
    tokens: float,
    context: float,
    rate: Floats,
    cycle: Floats,
) -> None:
    """Fill the decode curve (G,): tokens a second and seconds between tokens, at batches up to what ``tokens`` of KV hold."""
    cycles(table, stages, layers, hops_s, cycle)
    most = max(countable(tokens / context) / len(stages), 1.0)
    for g in range(len(table.batches)):
        batch = float(table.batches[g])
        if batch > most:
            if table.batches[g - 1] < most:
                before = float(table.batches[g - 1])
                cycle[g] = cycle[g - 1] + (cycle[g] - cycle[g - 1]) * (most - before) / (batch - before)
            else:
                cycle[g] = cycle[g - 1]
        rate[g] = len(stages) * min(batch, most) / cycle[g]


@jit
def best_within(rate: Floats, cycle: Floats, limit_s: float) -> float:
    """Most tokens a second with tokens no more than ``limit_s`` apart; minus the least distance if it cannot be met."""
    if cycle[0] > limit_s:
        return -float(cycle[0])
    best = float(rate[0])
    for g in range(1, len(rate)):
        if cycle[g] <= limit_s:
            best = max(best, float(rate[g]))
        elif cycle[g] > cycle[g - 1]:
            part = (limit_s - cycle[g - 1]) / (cycle[g] - cycle[g - 1])
            return max(best, float(rate[g - 1] + part * (rate[g] - rate[g - 1])))
    return best


@jit
def weigh_decode(
    table: StageTable,
    stages: Ints,
    num_layers: int,
    need: float,
    hops_s: Floats,
    context: float,
    limit_s: float,
    layers: Ints,
) -> float:
    """Tokens a second within the limit (see ``best_within``) with ``layers`` filled in; minus infinity if it does not fit."""
    count, grid = len(stages), len(table.batches)
    usable, fixed, layer, kv = memory_of(table, stages)
    most_kv = most_tokens(usable, fixed, layer, kv, num_layers, need)
    if most_kv < 0:
        return -np.inf
    layer_s, fixed_s, most = np.empty(count), np.empty(count), np.empty(count, np.int64)
    middle = grid // 2
    for s in range(count):
        row = stages[s]
        layer_s[s], fixed_s[s] = table.decode_layer_s[row, middle], table.decode_once_s[row, middle]
        fixed_s[s] += table.decode_last_s[row, middle] if s == count - 1 else 0.0
    best, trial, rate, cycle = -np.inf, np.empty(count, np.int64), np.empty(grid), np.empty(grid)
    for share in KV_SHARES:
        room_for_layers(usable, fixed, layer, kv, max(share * most_kv, need), most)
        if not balance(layer_s, fixed_s, most, num_layers, trial):
            continue
        decode_curve(table, stages, trial, hops_s, tokens_beside(usable, fixed, layer, kv, trial), context, rate, cycle)
        value = best_within(rate, cycle, limit_s)
        if value > best:
            best = value
            for s in range(count):
                layers[s] = trial[s]
    return best
