"""How many layers each stage holds: the slowest stage as fast as can be, within memory (the paper, second-hand).

Compiled, for it runs for every candidate configuration of every group.
"""

from __future__ import annotations

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.serving.compile import jit


@jit
def balance(layer_s: Floats, fixed_s: Floats, most: Ints, num_layers: int, layers: Ints) -> bool:
    """Fill ``layers`` (S,) so that max(fixed + layers * layer_s) is least, with 1 <= layers <= most; False if impossible.

    Each layer goes where the stage is then fastest. That is optimal: times only grow with layers, so the stage a layer
    goes to would have to take it, or be left below a slower one, in any better solution.
    """
    stages = len(layer_s)
    room = 0
    for s in range(stages):
        if most[s] < 1:
            return False
        layers[s] = 1
        room += most[s]
    if room < num_layers or num_layers < stages:
        return False
    for _ in range(num_layers - stages):
        best, best_s = -1, np.inf
        for s in range(stages):
            after_s = fixed_s[s] + (layers[s] + 1) * layer_s[s]
            if layers[s] < most[s] and after_s < best_s:
                best, best_s = s, after_s
        layers[best] += 1
    return True


@jit
def room_for_layers(usable: Floats, fixed: Floats, layer: Floats, kv: Floats, tokens: float, most: Ints) -> None:
    """Fill ``most`` (S,): layers that a stage can hold beside the KV of ``tokens`` tokens in those layers."""
    for s in range(len(usable)):
        most[s] = int(max(np.floor((usable[s] - fixed[s]) / (layer[s] + tokens * kv[s])), 0.0))


@jit
def holds(usable: Floats, fixed: Floats, layer: Floats, kv: Floats, num_layers: int, tokens: float) -> bool:
    """Whether the stages together hold all layers beside the KV of ``tokens`` tokens."""
    most = np.empty(len(usable), np.int64)
    room_for_layers(usable, fixed, layer, kv, tokens, most)
    total = 0
    for s in range(len(usable)):
        if most[s] < 1:
            return False
        total += most[s]
    return total >= num_layers


@jit
def tokens_beside(usable: Floats, fixed: Floats, layer: Floats, kv: Floats, layers: Ints) -> float:
    """KV tokens that every stage can hold beside its layers; negative if the weights alone do not fit."""
    least = np.inf
    for s in range(len(usable)):
        least = min(least, (usable[s] - fixed[s] - layers[s] * layer[s]) / (layers[s] * kv[s]))
    return least
