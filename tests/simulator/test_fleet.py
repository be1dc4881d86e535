from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenarios import TICK, Scenario, coarse_table, scenarios, step_table
from test_twin import assert_agrees

from thunderserve.serving.pool import Limits
from thunderserve.serving.router import Router
from thunderserve.simulator.dense import Layouts
from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup

ROOMY = Limits(False, 1, 4, 10_000, 0, 32, 512)


def setup(limits: Limits, seed: int = 0) -> ReplicaSetup:
    rng = np.random.default_rng(seed)
    return ReplicaSetup(
        step_table(rng, limits.stages, tick=rng.uniform(1e-4, 1e-3), fine=rng.uniform(1e-6, 1e-5)), limits
    )


def trace(count: int, gap_s: float, prompt: int, output: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(gap_s, count))
    return arrivals, rng.integers(1, prompt, count), rng.integers(1, output, count)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Field by field: what lies between the fields is nobody's."""
    return all(a[name].tobytes() == b[name].tobytes() for name in a.dtype.names or ())


def agree(replicas, routes, trace_, router=Router.SHARES, links=1) -> np.ndarray:
    return assert_agrees(Scenario(replicas, routes, router, links, *trace_))


# Long runs with times that are no round numbers: the twin adds them up step by step, the kernel in closed form.


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_long_colocated_runs_agree_with_the_twin(chunked: bool, stages: int) -> None:
    limits = ROOMY._replace(chunked=chunked, stages=stages, max_batched_tokens=96, max_sequences=8)
    agree([setup(limits)], [RouteSetup(0, 0)], trace(300, 0.04, 120, 80))


def test_preemption_happens_and_agrees_with_the_twin() -> None:
    limits = ROOMY._replace(blocks=60, stages=2)
    rows = agree([setup(limits)], [RouteSetup(0, 0)], trace(200, 0.01, 60, 80))
    assert rows["preemptions"].sum() > 100
    assert (rows["status"] == 0).all()


def test_a_request_that_can_never_fit_is_rejected_and_the_others_are_served() -> None:
    limits = ROOMY._replace(blocks=20, watermark_blocks=2)  # 18 blocks of 4: prompt + output - 1 up to 72
    prompts, outputs = np.array([60, 60, 73, 1]), np.array([13, 14, 1, 73])
    rows = agree([setup(limits)], [RouteSetup(0, 0)], (np.zeros(4), prompts, outputs))
    assert rows["status"].tolist() == [0, 1, 1, 1]


def test_a_request_goes_to_a_route_that_can_hold_it() -> None:
    small, large = ROOMY._replace(blocks=10), ROOMY
    rows = (
        Fleet([setup(small), setup(large)], [RouteSetup(0, 0, 0.9), RouteSetup(1, 1, 0.1)])
        .run(np.zeros(20), np.full(20, 100), np.full(20, 5))
        .requests
    )
    assert rows["route"].tolist() == [1] * 20


def test_a_full_decode_replica_holds_prefill_back() -> None:
    """Blocks stay held at the prefill replica until decode has room; the first prompt waits for nobody, the last for decode."""
    prefill, decode = ROOMY._replace(blocks=40), ROOMY._replace(blocks=40)
    rows = agree(
        [setup(prefill), setup(decode, 1)], [RouteSetup(0, 1)], (np.zeros(12), np.full(12, 60), np.full(12, 40))
    )
    assert (rows["transfer_start_s"] - rows["first_token_s"]).max() > 0.1
    first_end = np.sort(rows["finish_s"])[0]
    assert (rows["prefill_start_s"] > first_end).sum() >= 6, "prefill should have waited for decode"
    roomy = agree([setup(ROOMY), setup(ROOMY, 1)], [RouteSetup(0, 1)], (np.zeros(12), np.full(12, 60), np.full(12, 40)))
    assert (roomy["prefill_start_s"] < first_end).all()


@pytest.mark.parametrize("router", list(Router))
def test_a_large_split_fleet_agrees_with_the_twin(router: Router) -> None:
    shapes = [(1, 1), (2, 1), (1, 2), (3, 2), (1, 1), (2, 2)]
    replicas = [
        setup(ROOMY._replace(stages=stages, blocks=120 * role, max_sequences=16), index)
        for index, (stages, role) in enumerate(shapes)
    ]
    routes = [
        RouteSetup(a, b, 1.0 + a, ((a + b) % 3,), alpha_s=1e-3, s_per_token=2.3e-5, encode_s_per_token=1.1e-6)
        for a in (0, 1, 4)
        for b in (2, 3, 5)
    ]
    rows = agree(replicas, routes, trace(400, 0.012, 90, 70), router, 3)
    assert np.isfinite(rows["transfer_end_s"]).sum() > 350


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("decode_first", [True, False])
def test_a_transfer_that_takes_no_time_meets_a_step_that_ends_at_that_instant(decode_first: bool, stages: int) -> None:
    """Replicas take their turns by index, so it joins that step's successor only if its prefill replica comes first."""
    one_tick = coarse_table(np.random.default_rng(0), stages)
    one_tick = one_tick._replace(fixed_s=np.full(stages, TICK))
    busy = ReplicaSetup(one_tick, ROOMY._replace(stages=stages))
    source = ReplicaSetup(coarse_table(np.random.default_rng(0), 1)._replace(fixed_s=np.full(1, TICK)), ROOMY)
    replicas, ends = ([busy, source], (1, 0)) if decode_first else ([source, busy], (0, 1))
    routes = [RouteSetup(ends[1], ends[1]), RouteSetup(*ends)]
    ends_s = []
    for offset in range(4):
        arrivals = TICK * np.array([0, 20 + offset])
        rows = agree(replicas, routes, (arrivals, np.array([1, 1]), np.array([90, 2])))
        ends_s += [rows["finish_s"][rows["output_tokens"] == 2][0] - arrivals[1]]
    assert set(rows["status"]) == {0}
    if stages == 1:
        assert set(ends_s) == {3 * TICK if decode_first else 2 * TICK}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_recording_changes_nothing_and_the_series_adds_up(scenario: Scenario) -> None:
    fleet = Fleet(scenario.replicas, scenario.routes, scenario.router, scenario.links)
    columns = scenario.arrivals, scenario.prompts, scenario.outputs
    plain, recorded = fleet.run(*columns), fleet.run(*columns, series=True)
    assert same_bits(recorded.requests, plain.requests)
    flights = recorded.flights
    assert len(flights) == recorded.replicas["flights"].sum() == plain.replicas["flights"].sum()
    assert flights["steps"].sum() == recorded.replicas["steps"].sum() == plain.replicas["steps"].sum()
    served = plain.requests[plain.requests["status"] == 0]
    tokens = (flights["steps"] * flights["decodes"]).sum() + flights["prefill_tokens"].sum()
    assert tokens >= (served["prompt_tokens"] + served["output_tokens"] - 1).sum()
    if not served["preemptions"].any():
        assert tokens == (served["prompt_tokens"] + served["output_tokens"] - 1).sum()


def test_the_same_input_gives_the_same_bytes() -> None:
    fleet = Fleet([setup(ROOMY), setup(ROOMY, 1)], [RouteSetup(0, 1)])
    columns = trace(500, 0.01, 90, 70)
    assert same_bits(fleet.run(*columns).requests, fleet.run(*columns).requests)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(scenarios(), min_size=2, max_size=3))
def test_fleets_that_share_layouts_do_what_they_do_alone(given_scenarios: list[Scenario]) -> None:
    layouts = Layouts()
    for scenario in [*given_scenarios, *given_scenarios]:  # the second time all tables have been laid out before
        shape = scenario.replicas, scenario.routes, scenario.router, scenario.links
        alone, sharing = Fleet(*shape), Fleet(*shape, layouts=layouts)
        columns = scenario.arrivals, scenario.prompts, scenario.outputs
        assert sharing.reals.tobytes() == alone.reals.tobytes()
        assert sharing.pool.ints.tobytes() == alone.pool.ints.tobytes()
        assert same_bits(sharing.pool.replicas, alone.pool.replicas)
        assert same_bits(sharing.run(*columns).requests, alone.run(*columns).requests)


def test_a_table_is_laid_out_once_for_each_largest_batch() -> None:
    layouts, table = Layouts(), setup(ROOMY).table
    assert layouts(table, 8) is layouts(table, 8)
    assert layouts(table, 4).rows["width"][0] == 5
    assert layouts(setup(ROOMY).table, 8) is not layouts(table, 8)


def test_no_requests_and_simultaneous_requests() -> None:
    fleet = Fleet([setup(ROOMY)], [RouteSetup(0, 0)])
    assert len(fleet.run(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)).requests) == 0
    rows = agree([setup(ROOMY)], [RouteSetup(0, 0)], (np.zeros(50), np.full(50, 9), np.full(50, 9)))
    assert (np.diff(rows["first_token_s"]) >= 0).all()


@pytest.mark.parametrize(
    ("replicas", "routes", "message"),
    [
        ([ROOMY._replace(max_sequences=0)], [RouteSetup(0, 0)], "max_sequences is 0"),
        ([ROOMY], [RouteSetup(0, 1)], "joins replicas 0 and 1"),
        ([ROOMY], [RouteSetup(0, 0, links=(2,))], "uses links"),
        ([ROOMY], [RouteSetup(0, 0, share=-1.0)], "shares"),
        ([ROOMY, ROOMY], [RouteSetup(0, 1), RouteSetup(1, 0)], "in a circle"),
        ([], [], "routes"),
    ],
)
def test_impossible_fleets_are_refused(replicas, routes, message) -> None:
    with pytest.raises(ValueError, match=message):
        Fleet([setup(limits) if limits.stages else limits for limits in replicas], routes)


def test_a_table_of_other_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="2 stages, but a step table for 1"):
        Fleet([ReplicaSetup(setup(ROOMY).table, ROOMY._replace(stages=2))], [RouteSetup(0, 0)])
