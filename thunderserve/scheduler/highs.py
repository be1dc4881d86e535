"""Sparse linear programs by HiGHS (through scipy): for what is solved once, and as the truth for the small solver."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thunderserve.cost.step_table import Floats, Ints


class Rows(NamedTuple):
    """A sparse matrix as entries, and its right-hand side."""

    row: Ints
    column: Ints
    value: Floats
    right: Floats


def maximise(c: Floats, upper: Rows, equal: Rows | None = None) -> float:
    """The greatest ``c x`` with ``upper x <= right``, ``equal x = right`` and ``x >= 0``. Raises ValueError if there is none."""
    from scipy.optimize import linprog

    equations: dict[str, Any] = {}
    if equal is not None:
        equations = {"A_eq": _matrix(equal, len(c)), "b_eq": equal.right}
    solved: Any = linprog(-c, A_ub=_matrix(upper, len(c)), b_ub=upper.right, method="highs", **equations)
    if solved.status != 0:
        raise ValueError(f"the linear program has no optimum: {solved.message}")
    return 0.0 - float(solved.fun)  # no negative zero


def _matrix(rows: Rows, columns: int) -> Any:
    from scipy.sparse import coo_array

    shape = (len(rows.right), columns)
    return coo_array((rows.value, (rows.row, rows.column)), shape=shape).tocsr()


def stacked(*parts: Rows) -> Rows:
    """The rows of all parts, one below the other."""
    first = np.cumsum([0] + [len(part.right) for part in parts])
    return Rows(
        np.concatenate([part.row + start for part, start in zip(parts, first, strict=False)]),
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.right for part in parts]),
    )
