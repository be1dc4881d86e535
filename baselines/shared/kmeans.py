"""Lloyd's k-means with k-means++ seeding, for the few dozen points a cluster of GPUs makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def kmeans(points: Floats, k: int, rng: np.random.Generator, rounds: int = 50) -> Ints:
    """(N,) cluster of each of the (N, D) points, numbered from 0; fewer than ``k`` where points coincide.

    Raises ValueError for a ``k`` outside 1..N.
    """
    if not 1 <= k <= len(points):
        raise ValueError(f"cannot make {k} clusters of {len(points)} points")
    centres = _seeded(points, k, rng)
    labels = nearest(points, centres)
    for _ in range(rounds):
        centres = np.stack([points[labels == i].mean(axis=0) if (labels == i).any() else centres[i] for i in range(k)])
        moved = nearest(points, centres)
        if (moved == labels).all():
            break
        labels = moved
    _, numbered = np.unique(labels, return_inverse=True)
    return numbered.astype(np.int64)


def nearest(points: Floats, centres: Floats) -> Ints:
    """(N,) index of the nearest centre, the first of equals."""
    return np.asarray(distances(points, centres).argmin(axis=1), dtype=np.int64)


def distances(points: Floats, centres: Floats) -> Floats:
    """(N, K) squared distances."""
    squared: Floats = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
    return squared


def _seeded(points: Floats, k: int, rng: np.random.Generator) -> Floats:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007): far points are likelier centres."""
    centres = points[[int(rng.integers(len(points)))]]
    while len(centres) < k:
        weight = distances(points, centres).min(axis=1)
        total = weight.sum()
        chance = weight / total if total > 0 else np.full(len(points), 1 / len(points))
        centres = np.concatenate([centres, points[[int(rng.choice(len(points), p=chance))]]])
    return centres
