"""Against queueing theory: one server, constant service, Poisson arrivals."""

from __future__ import annotations

import numpy as np
import pytest

from thunderserve.cost.step_table import StepTable
from thunderserve.serving.pool import Limits
from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup

SERVICE = 0.25
ZERO = np.zeros((1, 1))
CONSTANT = StepTable(
    fixed_s=np.array([SERVICE]),
    token_knots=np.array([1]),
    token_s=ZERO,
    logit_knots=np.array([1]),
    logit_s=ZERO,
    batch_knots=np.array([1]),
    context_knots=np.array([1]),
    decode_s=np.zeros((1, 1, 1)),
    chunk_knots=np.array([1]),
    pair_s=ZERO,
    chunk_s=np.zeros(1),
    hop_s=np.zeros(1),
    hop_s_per_token=np.zeros(1),
)
ONE_BY_ONE = Limits(False, 1, 16, 10_000, 0, 1, 100)


def poisson(count: int, load: float, seed: int) -> np.ndarray:
    """Arrivals whose mean gap is exactly SERVICE / load: the load itself has no sampling error."""
    gaps = np.random.default_rng(seed).exponential(1.0, count)
    return np.cumsum(gaps / gaps.mean() * SERVICE / load)


@pytest.mark.parametrize(("load", "runs"), [(0.3, 1), (0.6, 1), (0.9, 4)])
def test_the_wait_is_that_of_an_m_d_1_queue(load: float, runs: int) -> None:
    fleet = Fleet([ReplicaSetup(CONSTANT, ONE_BY_ONE)], [RouteSetup(0, 0)])
    waits = []
    for seed in range(runs):
        count = 1_000_000
        ones = np.ones(count, np.int64)
        rows = fleet.run(poisson(count, load, seed), ones, ones).requests
        waits.append(np.mean(rows["prefill_start_s"] - rows["arrival_s"]))
    assert np.mean(waits) == pytest.approx(load / (2 * (1 - load)) * SERVICE, rel=0.01)


def test_littles_law_holds_between_the_time_series_and_the_records() -> None:
    """What departures leave behind (the series) is what arrivals see and time averages: rate * sojourn (the records)."""
    load, count = 0.7, 400_000
    ones = np.ones(count, np.int64)
    outcome = Fleet([ReplicaSetup(CONSTANT, ONE_BY_ONE)], [RouteSetup(0, 0)]).run(
        poisson(count, load, 0), ones, ones, series=True
    )
    rows, flights = outcome.requests, outcome.flights
    assert len(flights) == count
    left_behind = np.mean(flights["waiting"] + flights["running"])
    sojourn = np.mean(rows["finish_s"] - rows["arrival_s"])
    assert left_behind == pytest.approx(load / SERVICE * sojourn, rel=0.01)
    busy = np.sum(flights["end_s"] - flights["start_s"])
    assert busy == pytest.approx(count * SERVICE, rel=1e-9)
