"""The whole planner: plans that hold, are seeded, follow their options; and rescheduling."""

from collections.abc import Callable

import pytest

from thunderserve.backend import Deployment
from thunderserve.policy import Problem
from thunderserve.scheduler.system import System
from thunderserve.serving.records import meets
from thunderserve.simulator.backend import Simulated
from thunderserve.spec.plan import Phase, Plan

QUICK = System(steps=12, no_gain=8, requests=200, judged_requests=400)


def attainment(problem: Problem, plan: Plan, requests: int = 1500) -> float:
    trace = problem.sample(requests, problem.rate_per_s, 99)
    records = Simulated(problem.costs).serve(Deployment(plan, problem.cluster, problem.model), trace).records
    return float(meets(records, problem.slo.limits(problem.alone(trace))).joint.mean())


@pytest.fixture(scope="module")
def plan(cloud: Problem) -> Plan:
    return QUICK.plan(cloud)


def test_the_plan_holds_and_does_what_it_says(cloud: Problem, plan: Plan) -> None:
    plan.check(cloud.cluster, cloud.model)
    assert {replica.phase for replica in plan.replicas} == {Phase.PREFILL, Phase.DECODE}
    said = float(plan.notes["attainment"].split()[0])
    assert attainment(cloud, plan) == pytest.approx(said, abs=0.05)


def test_same_seed_same_plan(cloud: Problem, plan: Plan) -> None:
    assert QUICK.plan(cloud).model_dump_json() == plan.model_dump_json()


@pytest.mark.parametrize(
    ("options", "phases", "codecs"),
    [
        ({"codec": "16bit"}, {"prefill", "decode"}, {"raw"}),
        ({"codec": "4bit"}, {"prefill", "decode"}, {"int4"}),
        ({"orchestration": "uniform"}, {"prefill", "decode"}, {"int4"}),
        ({"init": "random"}, {"prefill", "decode"}, {"int4"}),
        ({"heterogeneity": "blind"}, {"prefill", "decode"}, {"int4"}),
        ({"phase_split": "off"}, {"both"}, {"raw"}),
    ],
)
def test_ablations(cloud: Problem, options: dict[str, str], phases: set[str], codecs: set[str]) -> None:
    plan = System(**(QUICK.__dict__ | options)).plan(cloud)
    plan.check(cloud.cluster, cloud.model)
    assert {replica.phase.value for replica in plan.replicas} == phases
    assert {flow.codec.name for flow in plan.flows} <= codecs
    if options.get("orchestration") == "uniform":
        assert len({round(flow.share, 12) for flow in plan.flows}) == 1


def test_stages_of_one_degree_are_what_vllm_carries_out(cloud: Problem, plan: Plan) -> None:
    from thunderserve.engine.vllm import arguments
    from thunderserve.spec.errors import SpecError

    alike = System(**(QUICK.__dict__ | {"degrees": "alike"})).plan(cloud)
    assert all(len({stage.tp for stage in replica.stages}) == 1 for replica in alike.replicas)
    arguments.check(alike)
    mixed = any(len({stage.tp for stage in replica.stages}) > 1 for replica in plan.replicas)
    if mixed:
        with pytest.raises(SpecError, match="degrees=alike"):
            arguments.check(plan)


@pytest.mark.parametrize("transfer", ["after_prefill", "layerwise"])
def test_the_plan_says_when_keys_and_values_leave(cloud: Problem, transfer: str) -> None:
    system = System(**(QUICK.__dict__ | {"transfer": transfer}))
    made, found = system.search(cloud)
    assert made.transfer == transfer
    early = system.lower(cloud).simulation.fleet(found.estimate)
    assert set(early.paths["layers"].tolist()) == {cloud.model.num_layers if transfer == "layerwise" else 0}


def test_a_cluster_that_cannot_hold_the_model_is_refused_in_words(tiny: Callable[[int, int], Problem]) -> None:
    from thunderserve.spec.load import load_model

    problem = tiny(2, 0)
    large = Problem(**(problem.__dict__ | {"model": load_model("llama-2-70b")}))
    with pytest.raises(ValueError, match="hold"):
        QUICK.plan(large)


def groups_of(plan: Plan) -> set[tuple[object, ...]]:
    return {replica.stages for replica in plan.replicas}


def test_rescheduling_keeps_groups_and_layers(cloud: Problem, plan: Plan) -> None:
    lost = plan.replicas[0].devices[:1]
    found = QUICK.reschedule(plan, cloud, lost=lost)
    found.plan.check(cloud.cluster, cloud.model)
    assert groups_of(found.plan) <= groups_of(plan)
    assert not {device for replica in found.plan.replicas for device in replica.devices} & set(lost)
    assert {replica.phase for replica in found.plan.replicas} == {Phase.PREFILL, Phase.DECODE}


def test_rescheduling_for_nothing_changes_no_phase(cloud: Problem, plan: Plan) -> None:
    again = QUICK.reschedule(plan, cloud)
    flips = {replica.stages: replica.phase for replica in plan.replicas}
    assert attainment(cloud, again.plan) >= attainment(cloud, plan) - 0.02
    assert sum(flips[replica.stages] is not replica.phase for replica in again.plan.replicas) <= 3


def test_rescheduling_turns_prefill_into_decode_when_all_decode_is_lost(cloud: Problem, plan: Plan) -> None:
    lost = [device for replica in plan.replicas if replica.phase is Phase.DECODE for device in replica.devices]
    found = QUICK.reschedule(plan, cloud, lost=lost)
    assert {replica.phase for replica in found.plan.replicas} == {Phase.PREFILL, Phase.DECODE}


def test_rescheduling_refuses_when_nothing_is_left(cloud: Problem, plan: Plan) -> None:
    lost = [device for replica in plan.replicas[1:] for device in replica.devices]
    with pytest.raises(ValueError, match="cannot serve both phases"):
        QUICK.reschedule(plan, cloud, lost=lost)
