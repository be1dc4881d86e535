"""Intervals hold the truth as often as they say, on requests that queue behind one another."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.statistics import repeats
from harness.statistics.binomial import share_interval
from harness.statistics.bootstrap import block_means, mean_interval
from harness.statistics.correlation import design_effect
from harness.statistics.percentiles import percentile

LOAD = 0.7
RUNS = 400


def waits(seed: int, requests: int, load: float = LOAD) -> NDArray[np.float64]:
    """Sojourn times in M/M/1 with unit service, from a queue already in balance (Lindley's recursion)."""
    generator = np.random.default_rng(seed)
    arrivals = generator.exponential(1 / load, requests)
    services = generator.exponential(1.0, requests)
    wait = generator.exponential(1 / (1 - load)) if generator.random() < load else 0.0
    total = np.empty(requests)
    for i in range(requests):
        total[i] = wait + services[i]
        wait = max(0.0, total[i] - arrivals[i])
    return total


@pytest.fixture(scope="module")
def runs() -> list[NDArray[np.float64]]:
    return [waits(seed, 2000) for seed in range(RUNS)]


def test_mean_of_a_queue_is_covered(runs: list[NDArray[np.float64]]) -> None:
    truth = 1 / (1 - LOAD)
    found = [mean_interval([run], resamples=400) for run in runs]
    cover = np.mean([low <= truth <= high for low, high in found if low is not None])  # type: ignore[misc]
    blind = np.mean([abs(run.mean() - truth) <= 1.96 * run.std() / np.sqrt(len(run)) for run in runs])
    assert cover > 0.84, f"covers {cover:.3f}"
    assert blind < 0.55, "a queue whose requests were independent would prove nothing here"


def test_share_of_a_queue_is_covered(runs: list[NDArray[np.float64]]) -> None:
    limit = 6.0
    truth = 1 - np.exp(-(1 - LOAD) * limit)
    blind = seen = 0
    for run in runs:
        met = run <= limit
        low, high = share_interval(int(met.sum()), len(met), effect=design_effect(met))
        seen += low <= truth <= high
        low, high = share_interval(int(met.sum()), len(met))
        blind += low <= truth <= high
    assert seen / RUNS > 0.88, f"covers {seen / RUNS:.3f}"
    assert blind / RUNS < 0.6


def test_percentiles_of_a_queue_are_covered(runs: list[NDArray[np.float64]]) -> None:
    for share in (0.5, 0.9):
        truth = -np.log(1 - share) / (1 - LOAD)
        found = [percentile(run, share).interval for run in runs]
        cover = np.mean([pair is not None and pair[0] <= truth <= pair[1] for pair in found])
        assert cover > 0.87, f"p{share}: covers {cover:.3f}"


def test_seeds_cover_the_mean_and_the_share(runs: list[NDArray[np.float64]]) -> None:
    truth, limit = 1 / (1 - LOAD), 6.0
    share_truth = 1 - np.exp(-(1 - LOAD) * limit)
    means = shares = 0
    groups = [runs[i : i + 3] for i in range(0, RUNS - 2, 3)]
    for group in groups:
        low, high = repeats.positive([float(run.mean()) for run in group]).interval or (0.0, 0.0)
        means += low <= truth <= high
        low, high = repeats.share([float(np.mean(run <= limit)) for run in group], 2000).interval or (0.0, 0.0)
        shares += low <= share_truth <= high
    assert means / len(groups) > 0.9
    assert shares / len(groups) > 0.9


def test_independent_values_have_no_design_effect() -> None:
    effects = [design_effect(np.random.default_rng(seed).random(4000)) for seed in range(200)]
    assert np.mean(effects) < 1.45
    assert design_effect(np.ones(1000)) == 1.0
    assert design_effect(np.arange(10.0)) == 1.0


def test_a_design_effect_is_the_one_of_the_process() -> None:
    """AR(1): the variance of the mean grows by (1 + r) / (1 - r)."""
    found = []
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(size=40_000)
        series = np.empty_like(noise)
        series[0] = noise[0] / np.sqrt(1 - 0.8**2)
        for i in range(1, len(series)):
            series[i] = 0.8 * series[i - 1] + noise[i]
        found.append(design_effect(series))
    assert np.mean(found) == pytest.approx(1.8 / 0.2, rel=0.3)


def test_block_means_are_those_of_a_plain_loop() -> None:
    values = np.random.default_rng(4).lognormal(size=205)
    drawn = block_means(values, np.random.default_rng(5), resamples=7)
    starts = np.random.default_rng(5).integers(0, 205, size=(7, 20))
    plain = [np.mean([values[(s + j) % 205] for s in row for j in range(10)]) for row in starts]
    np.testing.assert_allclose(drawn, plain, rtol=1e-12)
