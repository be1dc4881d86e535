"""A small linear program, solved in microseconds: ``max c z`` with ``a z <= b``, ``z >= 0`` and ``b >= 0``.

The orchestration of a plan is solved thousands of times in a search, at some forty rows and columns; there the call
overhead of a general solver (HiGHS through scipy takes about 3 ms) costs a hundred times what the pivots do. Dense tableau,
Dantzig's rule, Bland's after a run of degenerate pivots so that it always ends. Tests hold it against HiGHS.
"""

from __future__ import annotations

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.serving.compile import jit

EPSILON = 1e-10
PATIENCE = 20
"""Degenerate pivots in a row after which Bland's rule takes over."""


@jit
def maximise(c: Floats, a: Floats, b: Floats) -> tuple[Floats, float]:
    """The optimal ``z`` (N,) and its value, for ``c`` (N,), ``a`` (M, N) and ``b`` (M,). The program must be bounded."""
    rows, columns = a.shape
    tableau = np.zeros((rows + 1, columns + 1))
    outside, inside = np.empty(columns, np.int64), np.empty(rows, np.int64)
    for column in range(columns):
        tableau[rows, column] = -c[column]
        outside[column] = column  # variable of each column (those at zero)
    for row in range(rows):
        for column in range(columns):
            tableau[row, column] = a[row, column]
        tableau[row, columns] = b[row]
        inside[row] = columns + row  # variable of each row
    degenerate = 0
    for _ in range(50 * (rows + columns)):
        column = _entering(tableau, outside, degenerate > PATIENCE)
        if column < 0:
            break
        row = _leaving(tableau, inside, column)
        if row < 0:
            break
        degenerate = degenerate + 1 if tableau[row, columns] < EPSILON else 0
        _pivot(tableau, row, column)
        inside[row], outside[column] = outside[column], inside[row]
    z = np.zeros(columns)
    for row in range(rows):
        if inside[row] < columns:
            z[inside[row]] = tableau[row, columns]
    return z, float(tableau[rows, columns])


@jit
def _entering(tableau: Floats, outside: Ints, careful: bool) -> int:
    """The column that raises the objective most; carefully, the variable of the least number that raises it at all."""
    objective, best, least = tableau.shape[0] - 1, -1, -EPSILON
    for column in range(tableau.shape[1] - 1):
        cost = tableau[objective, column]
        if careful:
            if cost < -EPSILON and (best < 0 or outside[column] < outside[best]):
                best = column
        elif cost < least:
            best, least = column, cost
    return best


@jit
def _leaving(tableau: Floats, inside: Ints, column: int) -> int:
    """The row that first reaches zero; of equals the variable of the least number."""
    last, best, least = tableau.shape[1] - 1, -1, np.inf
    for row in range(tableau.shape[0] - 1):
        if tableau[row, column] > EPSILON:
            ratio = max(tableau[row, last], 0.0) / tableau[row, column]
            if ratio < least - 1e-12 or (ratio <= least + 1e-12 and best >= 0 and inside[row] < inside[best]):
                best, least = row, min(ratio, least)
    return best


@jit
def _pivot(tableau: Floats, row: int, column: int) -> None:
    """Swap the variables of a row and a column (the tableau keeps no columns for those inside)."""
    rows, columns = tableau.shape
    inverse = 1.0 / tableau[row, column]
    for j in range(columns):
        tableau[row, j] *= inverse
    for i in range(rows):
        factor = tableau[i, column]
        if i != row and factor != 0.0:
            for j in range(columns):
                tableau[i, j] -= factor * tableau[row, j]
            tableau[i, column] = -factor * inverse
    tableau[row, column] = inverse
