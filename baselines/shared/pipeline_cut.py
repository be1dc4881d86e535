"""Alpa's inter-operator pass: layers and cards in a row, cut into stages by dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOLERANCE = 0.01
"""Bounds on the slowest stage that differ by less are not told apart (the paper's epsilon)."""


class Mesh(NamedTuple):
    """A submesh: ``cards`` cards from the ``start``-th of the row, and the seconds it takes with 1, 2 ... layers, ascending."""

    start: int
    cards: int
    seconds: tuple[float, ...]


class Cut(NamedTuple):
    """Stages in order, each a mesh and its layers, and the objective they reach."""

    stages: tuple[tuple[Mesh, int], ...]
    value: float


def best_cut(num_layers: int, num_cards: int, meshes: Sequence[Mesh], in_flight: int) -> Cut | None:
    """Stages that use all cards and layers with the least ``sum t_i + (in_flight - 1) max t_i``; None if there are none.

    The paper's Algorithm 1: a bound t_max on the slowest stage runs through the times that stages may take, ascending;
    under each bound an inner DP finds the least sum. Bounds below the smallest that has a solution are skipped by bisection,
    those that cannot win any more end the search: ``(in_flight - 1) t_max`` alone is worse, or the least sum needs no bound.
    """
    bounds = _spaced(sorted({seconds for mesh in meshes for seconds in mesh.seconds}))
    low, high = 0, len(bounds)
    while low < high:
        middle = (low + high) // 2
        found = least_sum(num_layers, num_cards, meshes, bounds[middle])
        low, high = (low, middle) if found is not None else (middle + 1, high)
    unbounded = least_sum(num_layers, num_cards, meshes, np.inf)
    if unbounded is None:
        return None
    best = _valued(unbounded, in_flight)
    for bound in bounds[low:]:
        if (in_flight - 1) * bound >= best.value or bound >= _slowest(unbounded):
            break
        found = least_sum(num_layers, num_cards, meshes, bound)
        if found is not None and _valued(found, in_flight).value < best.value:
            best = _valued(found, in_flight)
    return best


def _spaced(values: list[float]) -> list[float]:
    """The last of every run of values that lie within the tolerance."""
    kept: list[float] = []
    for value in reversed(values):
        if not kept or value < kept[-1] * (1 - TOLERANCE):
            kept.append(value)
    return kept[::-1]


def _slowest(stages: tuple[tuple[Mesh, int], ...]) -> float:
    return max(mesh.seconds[layers - 1] for mesh, layers in stages)


def _valued(stages: tuple[tuple[Mesh, int], ...], in_flight: int) -> Cut:
    total = sum(mesh.seconds[layers - 1] for mesh, layers in stages)
    return Cut(stages, total + (in_flight - 1) * _slowest(stages))


def least_sum(
    num_layers: int, num_cards: int, meshes: Sequence[Mesh], bound: float
) -> tuple[tuple[Mesh, int], ...] | None:
    """Stages of the least sum of times, none above ``bound``, that use all cards and layers; None if there are none.

    ``seconds[c, l]`` is the least for the first c cards holding the first l layers.
    """
    seconds = np.full((num_cards + 1, num_layers + 1), np.inf)
    seconds[0, 0] = 0.0
    came: NDArray[np.int64] = np.full((num_cards + 1, num_layers + 1, 2), -1)
    for number in sorted(range(len(meshes)), key=lambda i: (meshes[i].start, i)):
        mesh = meshes[number]
        if not np.isfinite(seconds[mesh.start]).any():
            continue
        end = mesh.start + mesh.cards
        for layers in range(1, min(len(mesh.seconds), num_layers) + 1):
            if mesh.seconds[layers - 1] > bound:
                break
            reached = seconds[mesh.start, : num_layers + 1 - layers] + mesh.seconds[layers - 1]
            better = reached < seconds[end, layers:]
            seconds[end, layers:][better] = reached[better]
            came[end, layers:][better] = number, layers
    return _traced(meshes, came, num_cards, num_layers) if np.isfinite(seconds[-1, -1]) else None


def _traced(meshes: Sequence[Mesh], came: NDArray[np.int64], card: int, layer: int) -> tuple[tuple[Mesh, int], ...]:
    stages: list[tuple[Mesh, int]] = []
    while card:
        mesh, layers = meshes[came[card, layer, 0]], int(came[card, layer, 1])
        stages.append((mesh, layers))
        card, layer = mesh.start, layer - layers
    return tuple(reversed(stages))
