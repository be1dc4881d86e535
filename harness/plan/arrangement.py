"""Where the nodes of a picture stand: on a grid, so that what is joined lies close and arrows cross nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STEPS = 4000
CROSSED = 3.0
"""Grid units that an arrow through a box counts as."""
CORNER = 0.15
"""Grid units that a box away from the middle counts as, so that pictures are compact."""


class Tie(NamedTuple):
    """Something that joins two boxes, by number; heavier ties are kept shorter."""

    source: int
    target: int
    weight: float


def grid(count: int) -> tuple[int, int]:
    """(columns, rows) with room for ``count`` boxes: three abreast fill the width of a page."""
    columns = count if count <= 2 else 2 if count <= 4 else max(3, math.ceil(math.sqrt(count)))
    return columns, math.ceil(count / columns)


def arrange(count: int, ties: Sequence[Tie], *, seed: int = 0) -> list[tuple[int, int]]:
    """(column, row) of each box: the best found by exchanging two places at a time, the same for the same seed."""
    columns, rows = grid(count)
    places = [(column, row) for row in range(rows) for column in range(columns)]
    rng = np.random.default_rng(seed)
    order = list(range(len(places)))  # place of each box; places beyond ``count`` stay empty
    best = current = _cost([places[i] for i in order[:count]], ties, columns, rows)
    kept = order[:count]
    for step in range(STEPS if len(places) > 1 and ties else 0):
        a, b = (int(one) for one in rng.choice(len(places), 2, replace=False))
        order[a], order[b] = order[b], order[a]
        cost = _cost([places[i] for i in order[:count]], ties, columns, rows)
        warmth = 0.5 * (1 - step / STEPS)
        if cost <= current or rng.random() < math.exp((current - cost) / max(warmth, 1e-9)):
            current = cost
            if cost < best - 1e-12:
                best, kept = cost, order[:count]
        else:
            order[a], order[b] = order[b], order[a]
    return [places[i] for i in kept]


def _cost(boxes: Sequence[tuple[int, int]], ties: Sequence[Tie], columns: int, rows: int) -> float:
    total = CORNER * sum(abs(x - (columns - 1) / 2) + abs(y - (rows - 1) / 2) for x, y in boxes)
    for source, target, weight in ties:
        a, b = boxes[source], boxes[target]
        total += (0.3 + weight) * math.dist(a, b)
        total += CROSSED * sum(
            _between(a, b, other) for place, other in enumerate(boxes) if place not in (source, target)
        )
    return total


def _between(a: tuple[int, int], b: tuple[int, int], point: tuple[int, int]) -> bool:
    """Whether the straight line from a to b passes through the box at ``point``."""
    length = math.dist(a, b)
    if length == 0:
        return False
    along = ((point[0] - a[0]) * (b[0] - a[0]) + (point[1] - a[1]) * (b[1] - a[1])) / length**2
    if not 0 < along < 1:
        return False
    foot = (a[0] + along * (b[0] - a[0]), a[1] + along * (b[1] - a[1]))
    return math.dist(foot, point) < 0.3
