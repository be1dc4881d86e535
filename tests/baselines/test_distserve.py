"""The ``distserve`` system: its two placement algorithms, held against brute force and their own promises."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from problems import problem

from baselines.distserve import Fleet, System, _cut_high, _cut_low, _place_both
from baselines.shared.goodput import decode_alone, instantaneous
from baselines.shared.instances import Shape
from thunderserve.backend import Deployment
from thunderserve.cost.evaluate import decode_s, step_latency_s
from thunderserve.serving.records import meets
from thunderserve.simulator.backend import Simulated, replica_setup
from thunderserve.spec.plan import Phase, Plan
from thunderserve.spec.trace import Trace


@pytest.mark.parametrize("affinity", ["high", "low"])
def test_plans_split_every_request(affinity: str) -> None:
    made = problem()
    plan = System(affinity=affinity).plan(made)
    plan.check(made.cluster, made.model)
    assert {replica.phase for replica in plan.replicas} == {Phase.PREFILL, Phase.DECODE}
    assert plan.router == "join_shortest_queue"
    assert all(flow.codec.name == "raw" for flow in plan.flows)


def test_low_affinity_keeps_matching_stages_on_one_node() -> None:
    """On slow links between nodes KV must never cross them (its Algorithm 2)."""
    made = problem("cloud-32", rate_per_s=2.0)
    plan = System(affinity="low").plan(made)
    assert plan.flows
    for flow in plan.flows:
        pairs = zip(plan.replicas[flow.prefill].stages, plan.replicas[flow.decode].stages, strict=True)
        for prefill, decode in pairs:
            nodes = {made.cluster.devices[device].node for device in (*prefill.devices, *decode.devices)}
            assert len(nodes) == 1
            assert prefill.num_layers == decode.num_layers


def test_auto_looks_at_the_links() -> None:
    assert "high affinity" in System().plan(problem()).notes["A100-80G"]
    notes = System().plan(problem("cloud-32", rate_per_s=2.0)).notes
    assert "high affinity" in notes.pop("A40")  # eight cards of one node
    assert notes
    assert all("low affinity" in note for note in notes.values())  # the others stand on two


@pytest.mark.parametrize(("each", "tps"), [((3.0, 1.0), (2, 2)), ((1.0, 5.0), (2, 4)), ((2.0, 2.0), (1, 4))])
def test_replication_is_the_best_mix_there_is(each: tuple[float, float], tps: tuple[int, int]) -> None:
    """All pairs (n, m) that fit on eight cards, against the one it takes: none carries more traffic."""
    made = problem()
    shapes = Shape("A100-80G", tps[0], 1), Shape("A100-80G", tps[1], 1)
    best = max(
        min(n * each[0], m * each[1])
        for n, m in product(range(1, 9), repeat=2)
        if n * tps[0] + m * tps[1] <= 8 and (_place_both(made, shapes, n, m) or ([], 0))[1] == m
    )
    cut = _cut_high(made, shapes, each, "use")
    assert cut is not None
    assert cut.rate_per_s == pytest.approx(best)


def test_idle_spares_what_the_traffic_does_not_need() -> None:
    made = problem(rate_per_s=0.5)
    used, idle = System(affinity="high").plan(made), System(affinity="high", spare="idle").plan(made)
    assert sum(len(replica.devices) for replica in idle.replicas) < sum(
        len(replica.devices) for replica in used.replicas
    )
    assert len(idle.replicas) == 2  # half a request a second needs one of each


def test_decode_alone_counts_nothing_but_decode() -> None:
    """One request: every token but the first takes exactly one decode step of a batch of one."""
    made = problem()
    decode = next(r for r in System(affinity="high").plan(made).replicas if r.phase is Phase.DECODE)
    records = decode_alone(made, decode)(Trace(np.array([1.0]), np.array([500]), np.array([11])))
    table = replica_setup(made.model, decode, made.cluster, made.costs).table
    steps = step_latency_s(table, decode_s(table, 1, np.arange(501, 511)), np.ones(10))
    assert records.first_token_s[0] == pytest.approx(1.0, abs=1e-12)
    assert records.finish_s[0] == pytest.approx(1.0 + steps.sum(), rel=1e-9)


def test_instantaneous_keeps_the_knots() -> None:
    made = problem()
    decode = System(affinity="high").plan(made).replicas[-1]
    table = replica_setup(made.model, decode, made.cluster, made.costs).table
    instant = instantaneous(table)
    for name, value in instant._asdict().items():
        if name.endswith("knots"):
            assert np.array_equal(value, getattr(table, name))
        else:
            assert not value.any()


def test_low_affinity_leaves_no_better_unit() -> None:
    """Every unit forced in turn, simulated on the whole cluster near the edge: none attains clearly more."""
    made = problem(rate_per_s=8.0)
    low = System(affinity="low")
    trace = made.sample(2000, 8.0, 77)
    limits = made.slo.limits(made.alone(trace))

    def attainment(plan: Plan) -> float:
        served = Simulated(made.costs).serve(Deployment(plan, made.cluster, made.model), trace)
        return float(meets(served.records, limits).joint.mean())

    forced = []
    for prefill, decode in product(low._shapes(made, "A100-80G"), repeat=2):
        units = _cut_low(made, prefill, decode) if prefill.pp == decode.pp == 1 else []
        if units:
            forced.append(attainment(low._assemble(made, [("A100-80G", Fleet(units, 1.0, ""))])))
    assert attainment(low.plan(made)) >= max(forced) - 0.03
    assert max(forced) > min(forced) + 0.2  # the choice matters here
