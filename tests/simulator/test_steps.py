from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import step_table
from twin_parts import interpolate as plain

from thunderserve.serving.pool import Limits
from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup
from thunderserve.simulator.steps import run_seconds, steps_to_reach

TABLE = step_table(np.random.default_rng(1), 2, tick=1.1e-3, fine=1.7e-5)
WORLD = Fleet([ReplicaSetup(TABLE, Limits(False, 2, 4, 100, 0, 12, 64))], [RouteSetup(0, 0)]).world(
    np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
)
ROW = WORLD.pool.replicas[0]["table"]


def step(batch: int, keys: int) -> float:
    """One decode step through both stages and the hop, as the contract of the step table says."""
    seconds = float(TABLE.hop_s.sum() + batch * TABLE.hop_s_per_token.sum())
    for stage in range(2):
        by_batch = [plain(TABLE.context_knots, row, keys) for row in TABLE.decode_s[stage]]
        seconds += TABLE.fixed_s[stage] + plain(TABLE.batch_knots, by_batch, batch)
        seconds += plain(TABLE.token_knots, TABLE.token_s[stage], batch)
        seconds += plain(TABLE.logit_knots, TABLE.logit_s[stage], batch)
    return seconds


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 500), st.integers(1, 90))
def test_a_run_is_the_sum_of_its_steps(batch: int, keys: int, steps: int) -> None:
    expected = sum(step(batch, keys + batch * j) for j in range(steps))
    found = run_seconds(WORLD.pool.ints, WORLD.reals, ROW, batch, keys, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 12), st.integers(1, 500), st.integers(1, 90), st.integers(1, 90), st.booleans(), st.booleans())
def test_the_step_that_runs_at_a_time_is_found(batch, keys, limit, at, between, strict) -> None:
    table = ROW
    start_s = 7.3
    ends = [start_s + run_seconds(WORLD.pool.ints, WORLD.reals, table, batch, keys, n) for n in range(1, limit + 1)]
    time_s = ends[min(at, limit) - 1] - (1e-6 if between else 0.0)
    expected = next((n for n, end in enumerate(ends, 1) if (end > time_s if strict else end >= time_s)), limit)
    assert steps_to_reach(WORLD.pool.ints, WORLD.reals, table, batch, keys, start_s, time_s, strict, limit) == expected
