"""Lengths against their closed forms, and streams that begin alike however many are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thunderserve.workload import load

N = 100_000


def lengths(spec, count=N, seed=0):
    trace = load({"lengths": spec}).trace(count, 1.0, seed)
    return trace.prompt_tokens, trace.output_tokens


def test_lognormal_by_median_and_sigma():
    prompt, output = lengths(
        {"kind": "lognormal", "prompt": {"median": 1000, "sigma": 0.8}, "output": {"mean": 400, "cv": 0.5}}
    )
    assert stats.kstest(np.log(prompt), stats.norm(np.log(1000), 0.8).cdf).statistic < 1.63 / N**0.5 + 1e-3
    assert prompt.mean() == pytest.approx(1000 * np.exp(0.32), rel=0.02)
    assert output.mean() == pytest.approx(400, rel=4 * 0.5 / N**0.5)
    assert output.std() / output.mean() == pytest.approx(0.5, rel=0.02)
    assert abs(np.corrcoef(prompt, output)[0, 1]) < 4 / N**0.5


def test_lognormal_correlation_is_that_of_the_logarithms():
    shape = {"median": 5000, "sigma": 0.5}
    prompt, output = lengths({"kind": "lognormal", "prompt": shape, "output": shape, "correlation": -0.6})
    assert np.corrcoef(np.log(prompt), np.log(output))[0, 1] == pytest.approx(-0.6, abs=0.01)


def test_lognormal_bounds_and_a_sigma_of_zero():
    prompt, output = lengths(
        {"kind": "lognormal", "prompt": {"median": 100, "sigma": 2, "min": 50, "max": 200},
         "output": {"median": 0.1, "sigma": 0}}, 5000,
    )  # fmt: skip
    assert (prompt.min(), prompt.max()) == (50, 200)
    assert set(output) == {1}


def test_constant():
    prompt, output = lengths({"kind": "constant", "prompt": 512, "output": 128}, 10)
    assert prompt.tolist() == [512] * 10
    assert output.tolist() == [128] * 10


def test_mixture_keeps_its_weights_and_its_pairs_together():
    def part(weight, prompt, output):
        return {"weight": weight, "lengths": {"kind": "constant", "prompt": prompt, "output": output}}

    prompt, output = lengths({"kind": "mixture", "parts": [part(3, 10, 1), part(1, 20, 2)]})
    assert set(zip(prompt.tolist(), output.tolist(), strict=True)) == {(10, 1), (20, 2)}
    assert (prompt == 10).mean() == pytest.approx(0.75, abs=4 * (0.1875 / N) ** 0.5)


def test_table_draws_each_cell_by_its_count_and_evenly_within(tmp_path):
    (tmp_path / "t.csv").write_text("# a note\nprompt / output,1-2,9\n1-4,30,\n100,,10\n")
    trace = load({"lengths": {"kind": "table", "path": "t.csv"}}, beside=tmp_path).trace(N, 1.0, 0)
    pairs = list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    expected = {(prompt, output): 0.75 / 8 for prompt in range(1, 5) for output in (1, 2)} | {(100, 9): 0.25}
    assert set(pairs) == set(expected)
    counts = [pairs.count(pair) for pair in expected]
    assert stats.chisquare(counts, [N * share for share in expected.values()]).pvalue > 1e-3


SPECS = (
    {"kind": "lognormal", "prompt": {"median": 90, "sigma": 1}, "output": {"median": 9, "sigma": 1}, "correlation": 0.5},
    {"kind": "table", "path": "configs/workloads/azure-code.csv"},
    {"kind": "mixture", "parts": [{"weight": 1, "workload": "azure-code"}, {"weight": 2, "workload": "azure-conv"}]},
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SPECS), st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2**40))
def test_a_longer_trace_begins_with_the_shorter_one(spec, first, more, seed):
    short, long = lengths(spec, first, seed), lengths(spec, first + more, seed)
    assert np.array_equal(short[0], long[0][:first])
    assert np.array_equal(short[1], long[1][:first])
