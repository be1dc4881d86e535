"""The small linear-program solver against HiGHS."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from thunderserve.scheduler.simplex import maximise


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_agrees_with_highs(seed: int, rows: int, columns: int, degenerate: bool) -> None:
    rng = np.random.default_rng(seed)
    a = rng.uniform(0, 1, (rows, columns)) * (rng.random((rows, columns)) < 0.6)
    b = rng.uniform(0, 2, rows)
    if degenerate:
        b[rng.random(rows) < 0.5] = 0.0
        a = np.round(a, 1)
    c = rng.uniform(-0.5, 1, columns)
    a, b = np.vstack([a, np.ones(columns)]), np.append(b, 1.0)  # bounded, as every orchestration is
    z, value = maximise(c, a, b)
    truth = linprog(-c, A_ub=a, b_ub=b, method="highs")
    assert value == pytest.approx(-truth.fun, abs=1e-8)
    assert (z >= -1e-9).all()
    assert (a @ z <= b + 1e-8).all()
    assert c @ z == pytest.approx(value, abs=1e-8)


def test_known_by_hand() -> None:
    # max 3x + 2y with x + y <= 4, x + 3y <= 6, x <= 3: the corner (3, 1)
    z, value = maximise(np.array([3.0, 2.0]), np.array([[1.0, 1.0], [1.0, 3.0], [1.0, 0.0]]), np.array([4.0, 6.0, 3.0]))
    assert z == pytest.approx([3, 1])
    assert value == pytest.approx(11)
