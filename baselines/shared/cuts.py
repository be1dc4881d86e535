"""Graph partitions: spectral bisection, Kernighan-Lin refinement, and the opposite problem, a large cut."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Allowed = Callable[[Ints], bool]
"""Whether a labelling may be, e.g. because every part has enough memory."""

FAINT = 1e-6
"""Weight of a chain through the nodes in order, relative to the mean edge: decides between equal cuts the same way anywhere."""


def cut_weight(weights: Floats, labels: Ints) -> float:
    """Weight of all edges between parts; ``weights`` (N, N) symmetric, ``labels`` (N,)."""
    return float(weights[labels[:, None] != labels[None, :]].sum() / 2)


def spectral(weights: Floats, sizes: Floats, parts: int) -> Ints:
    """(N,) parts of nearly equal total size with little weight between them: recursive bisection by the Fiedler vector.

    ``weights`` (N, N) symmetric and not negative, ``sizes`` (N,). Every part has a node. Raises ValueError for fewer nodes
    than parts. Fiedler 1973; Hendrickson and Leland 1995.
    """
    count = len(sizes)
    if not 1 <= parts <= count:
        raise ValueError(f"cannot cut {count} nodes into {parts} parts")
    labels = np.zeros(count, dtype=np.int64)
    _bisect(weights, sizes, np.arange(count), parts, 0, labels)
    return labels


def _bisect(weights: Floats, sizes: Floats, nodes: Ints, parts: int, first: int, labels: Ints) -> None:
    labels[nodes] = first
    if parts == 1:
        return
    left = parts // 2
    order = nodes[np.argsort(fiedler(weights[np.ix_(nodes, nodes)]), kind="stable")]
    filled = np.cumsum(sizes[order]) / sizes[order].sum()
    cut = int(np.abs(filled - left / parts).argmin()) + 1
    cut = min(max(cut, left), len(order) - (parts - left))
    _bisect(weights, sizes, np.sort(order[:cut]), left, first, labels)
    _bisect(weights, sizes, np.sort(order[cut:]), parts - left, first + left, labels)


def fiedler(weights: Floats) -> Floats:
    """(N,) eigenvector of the second smallest eigenvalue of the Laplacian, its first large entry negative."""
    vector = np.linalg.eigh(laplacian(weights))[1][:, min(1, len(weights) - 1)]
    return _oriented(vector)


def laplacian(weights: Floats) -> Floats:
    """(N, N) degrees minus weights, with a faint chain added."""
    count = len(weights)
    chain = np.eye(count, k=1) + np.eye(count, k=-1)
    joined = weights * (1 - np.eye(count)) + FAINT * max(float(weights.mean()), 1e-300) * chain
    result: Floats = np.diag(joined.sum(axis=1)) - joined
    return result / max(float(np.abs(result).max()), 1e-300)


def _oriented(vector: Floats) -> Floats:
    rounded = np.round(vector, 9)
    large = int(np.argmax(np.abs(rounded) > 0.5 * np.abs(rounded).max()))
    return rounded if rounded[large] <= 0 else -rounded


def kernighan_lin(weights: Floats, labels: Ints, allowed: Allowed) -> Ints:
    """Swap nodes between pairs of parts until no series of swaps lowers the cut; never a heavier cut than before.

    A pass over two parts swaps, one pair after the other, the best pair not yet swapped (even at a loss), and keeps the best
    prefix. Kernighan and Lin, "An efficient heuristic procedure for partitioning graphs" (Bell System TJ, 1970).
    """
    best = labels.copy()
    improved = True
    while improved:
        improved = False
        for a, b in combinations(range(int(labels.max()) + 1), 2):
            passed = _pass(weights, best, a, b, allowed)
            if cut_weight(weights, passed) < cut_weight(weights, best) * (1 - 1e-12):
                best, improved = passed, True
    return best


def _pass(weights: Floats, labels: Ints, a: int, b: int, allowed: Allowed) -> Ints:
    current, best, gained, most = labels.copy(), labels, 0.0, 0.0
    free = np.isin(labels, (a, b))
    while True:
        left, right = np.flatnonzero(free & (current == a)), np.flatnonzero(free & (current == b))
        if not len(left) or not len(right):
            return best
        pull = weights[:, current == b].sum(axis=1) - weights[:, current == a].sum(axis=1)
        gains = pull[left][:, None] - pull[right][None, :] - 2 * weights[np.ix_(left, right)]
        swap = _first_allowed(gains, left, right, current, allowed)
        if swap is None:
            return best
        gain, x, y = swap
        current[x], current[y] = b, a
        free[[x, y]] = False
        gained += gain
        if gained > most:
            most, best = gained, current.copy()


def _first_allowed(
    gains: Floats, left: Ints, right: Ints, labels: Ints, allowed: Allowed
) -> tuple[float, int, int] | None:
    """The allowed swap of the largest gain."""
    for flat in np.argsort(-gains, axis=None, kind="stable"):
        i, j = np.unravel_index(int(flat), gains.shape)
        x, y = int(left[i]), int(right[j])
        swapped = labels.copy()
        swapped[[x, y]] = swapped[[y, x]]
        if allowed(swapped):
            return float(gains[i, j]), x, y
    return None


STARTS = 3
"""Eigenvectors that a large cut is begun from; refinement ends in a local optimum, and the best is kept."""


def large_cut(weights: Floats) -> Ints:
    """(N,) zeros and ones, as many of each as can be, with much weight between them.

    Starts from eigenvectors of the largest eigenvalues of the Laplacian, and refines by Kernighan-Lin on negated weights, for
    which a lighter cut is a heavier one here. Raises ValueError for fewer than two nodes.
    """
    count = len(weights)
    if count < 2:
        raise ValueError("a cut needs two nodes")
    vectors = np.linalg.eigh(laplacian(weights))[1]
    cuts = []
    for number in range(min(STARTS, count)):
        labels = np.zeros(count, dtype=np.int64)
        labels[np.argsort(_oriented(vectors[:, -1 - number]), kind="stable")[: count // 2]] = 1
        cuts.append(_grown(weights, labels))
    return max(cuts, key=lambda labels: cut_weight(weights, labels))


def _grown(weights: Floats, labels: Ints) -> Ints:
    best = labels
    while True:
        passed = _pass(-weights, best, 0, 1, lambda _: True)
        if cut_weight(weights, passed) <= cut_weight(weights, best) * (1 + 1e-12):
            return best
        best = passed
