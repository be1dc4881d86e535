"""Our own elementary functions against scipy's, and streams that do not depend on how they are cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from thunderserve.spec import draw


def test_ln_and_exp_against_long_doubles():
    values = draw.uniform(0, "ln", 200_000)
    values = np.concatenate([values, values * 1e-300, values * 1e300, [1.0, 0.5, 2.0]])
    exact = np.log(values.astype(np.longdouble))
    assert np.abs(draw.ln(values) - exact).max() < 1e-13
    assert (np.abs(draw.ln(values) - exact) <= 2 * np.spacing(np.abs(exact).astype(float))).all()
    powers = (draw.uniform(0, "exp", 200_000) - 0.5) * 1400
    truth = np.exp(powers.astype(np.longdouble))
    assert (np.abs(draw.exp(powers) - truth) / truth).max() < 3e-16
    assert draw.exp(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 1.0, np.inf]


def test_inverse_normal_against_scipy():
    p = np.concatenate([draw.uniform(0, "p", 100_000), [1e-300, 1e-20, 1e-9, 0.5, 1 - 1e-12]])
    assert draw.inverse_normal(p) == pytest.approx(special.ndtri(p), rel=1e-13, abs=1e-15)


def test_golden():
    """The same bits on any machine: if this fails, every seed of every published result means something else."""
    assert draw.uniform(1, "golden", 3).tolist() == [0.020276425417292743, 0.5854798711188587, 0.4368744519150765]
    assert draw.normal(1, "golden", 3).tolist() == [-2.0480729613141575, 0.21593263541297095, -0.1588984221672853]
    assert draw.hashed_uniform(["golden"], 2).tolist() == [[0.9308250499947193, 0.5381665385193029]]


def test_uniform_is_uniform_and_streams_are_apart():
    first, second = draw.uniform(0, "a", 20_000), draw.uniform(0, "b", 20_000)
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / 20_000**0.5
    assert not np.array_equal(first, draw.uniform(1, "a", 20_000))
    assert 0 < first.min() < first.max() < 1


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_stream_does_not_depend_on_where_it_is_cut(skip, count):
    whole = draw.uniform(9, "cut", 80)
    assert np.array_equal(draw.uniform(9, "cut", count, skip=skip), whole[skip : skip + count])
