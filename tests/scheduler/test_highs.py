"""Optima of linear programs as numbers that people are shown."""

from __future__ import annotations

import math

import numpy as np

from thunderserve.scheduler.highs import Rows, maximise


def test_an_optimum_of_nothing_has_no_sign() -> None:
    nothing = maximise(np.array([1.0]), Rows(np.array([0]), np.array([0]), np.array([1.0]), np.array([0.0])))
    assert nothing == 0.0
    assert math.copysign(1.0, nothing) == 1.0
