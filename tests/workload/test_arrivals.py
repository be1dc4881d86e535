"""Arrival processes against their closed forms: moments, dispersion, and rates that follow their segments."""

import numpy as np
import pytest
from scipy import stats

from thunderserve.workload import load
from thunderserve.workload.arrivals import gamma

N = 100_000
SAME = {"kind": "constant", "prompt": 10, "output": 10}


def arrivals(process, rate=4.0, seed=0, count=N, **more):
    return load({"lengths": SAME, "arrivals": process, **more}).trace(count, rate, seed).arrival_s


def gaps(*args, **kwargs):
    return np.diff(arrivals(*args, **kwargs), prepend=0.0)


def test_poisson_gaps_are_exponential():
    found = gaps("poisson")
    assert stats.kstest(found, stats.expon(scale=0.25).cdf).pvalue > 1e-3
    assert found.mean() == pytest.approx(0.25, rel=4 / N**0.5)


def test_poisson_counts_have_a_dispersion_of_one_and_no_memory():
    at = arrivals("poisson")
    counts = np.bincount((at / 5.0).astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * (2 / len(counts)) ** 0.5)
    found = np.diff(at)
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 4 / N**0.5


def test_constant_gaps():
    assert arrivals("constant", rate=3.0, count=3).tolist() == [0.333333333, 0.666666666, 0.999999999]
    assert np.ptp(gaps("constant")) < 2e-9


@pytest.mark.parametrize("cv", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_gamma_has_the_mean_and_cv_it_is_given(cv):
    found = gaps({"kind": "gamma", "cv": cv})
    shape = 1 / cv**2
    assert found.mean() == pytest.approx(0.25, rel=4 * cv / N**0.5)
    # The variance of a sample variance, with the excess kurtosis of a gamma distribution, 6 / shape.
    error = 4 * ((2 + 6 / shape) / N) ** 0.5 / 2
    assert found.std() / found.mean() == pytest.approx(cv, rel=error + 0.01)


@pytest.mark.parametrize("shape", [0.3, 1.0, 2.5, 40.0])
def test_gamma_against_its_distribution(shape):
    assert stats.kstest(gamma(shape, 0, "test", 50_000), stats.gamma(shape).cdf).pvalue > 1e-3


def test_burstiness_is_one_over_cv_squared():
    assert np.array_equal(gaps({"kind": "gamma", "cv": 2}), gaps({"kind": "gamma", "burstiness": 0.25}))


def test_a_very_bursty_process_still_ascends():
    at = arrivals({"kind": "gamma", "cv": 13.2}, count=5000)
    assert (np.diff(at) >= 0).all()
    assert np.isfinite(at).all()


def test_the_same_seed_at_another_rate_is_the_same_trace_scaled():
    workload = load("azure-conv")
    slow, fast = workload.trace(2000, 1.0, 5), workload.trace(2000, 8.0, 5)
    assert np.array_equal(slow.prompt_tokens, fast.prompt_tokens)
    assert np.array_equal(slow.output_tokens, fast.output_tokens)
    assert fast.arrival_s * 8 == pytest.approx(slow.arrival_s, abs=2000 * 8e-9)


def test_lengths_and_arrivals_are_independent():
    trace = load("azure-conv").trace(50_000, 1.0, 0)
    found = np.diff(trace.arrival_s, prepend=0.0)
    assert abs(np.corrcoef(found, trace.prompt_tokens)[0, 1]) < 4 / 50_000**0.5


def test_every_arrival_stands_on_the_nanosecond():
    at = arrivals("poisson", count=1000)
    assert np.array_equal(at, np.rint(at * 1e9) / 1e9)


class TestSegments:
    def test_durations_change_the_rate_at_their_times_around_and_around(self):
        segments = [{"duration": "10 s", "factor": 1}, {"duration": "30 s", "factor": 3}]
        at = arrivals("poisson", rate=10.0, segments=segments)
        # 10 s at 10/s and 30 s at 30/s: 1,000 requests in 40 s.
        assert at[-1] == pytest.approx(40 * N / 1000, rel=4 / N**0.5)
        early = (at % 40) < 10
        assert early.mean() == pytest.approx(0.1, abs=4 * (0.09 / N) ** 0.5)
        inside = at[(at > 10) & (at < 40)] - 10
        assert stats.kstest(inside, stats.uniform(0, 30).cdf).pvalue > 1e-3

    def test_constant_gaps_stretch_with_the_factor(self):
        segments = [{"duration": "2 s", "factor": 1}, {"duration": "1 s", "factor": 4}]
        at = arrivals("constant", rate=1.0, count=9, segments=segments)
        assert at.tolist() == [1.0, 2.0, 2.25, 2.5, 2.75, 3.0, 4.0, 5.0, 5.25]

    def test_requests_and_shares_count(self):
        by_count = arrivals("constant", rate=1.0, count=7, segments=[{"requests": 2}, {"requests": 1, "factor": 2}])
        assert by_count.tolist() == [1.0, 2.0, 2.5, 3.5, 4.5, 5.0, 6.0]
        by_share = arrivals("constant", rate=1.0, count=4, segments=[{"share": 0.5}, {"share": 0.5, "factor": 4}])
        assert by_share.tolist() == [1.0, 2.0, 2.25, 2.5]

    def test_a_shift_changes_the_lengths_where_it_should(self):
        trace = load("azure-shift").trace(4000, 2.0, 0)
        code, conv = load("azure-code").trace(1, 1.0, 0), load("azure-conv").trace(1, 1.0, 0)
        assert len(code) == len(conv) == 1
        first, second = trace.output_tokens[:2000], trace.output_tokens[2000:]
        assert first.mean() == pytest.approx(27.9, rel=0.15)
        assert second.mean() == pytest.approx(211.1, rel=0.08)

    def test_segments_without_lengths_leave_the_lengths_alone(self):
        plain = load("azure-conv").trace(500, 2.0, 3)
        paced = load({"base": "azure-conv", "segments": [{"share": 0.2, "factor": 5}, {"share": 0.8}]}).trace(
            500, 2.0, 3
        )
        assert np.array_equal(plain.prompt_tokens, paced.prompt_tokens)
        assert not np.array_equal(plain.arrival_s, paced.arrival_s)
