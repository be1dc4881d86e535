"""The ``vllm`` system: it tries what an operator would, and keeps the shape that a full simulation agrees with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from problems import problem

from baselines.shared.goodput import Judge, server
from baselines.vllm import System
from thunderserve.backend import Deployment
from thunderserve.simulator.backend import Simulated
from thunderserve.spec.load import load_model
from thunderserve.spec.plan import Flow, Phase


def test_goodput_is_the_edge_of_attainment() -> None:
    """The rate it finds holds, and a rate one halving step higher does not."""
    made = problem()
    one = System(tp=2, pp=1).plan(made).replicas[0]
    judge = Judge(made, 1000, lambda met: met.joint)
    serve = server(made, (one,), (Flow(prefill=0, decode=0, share=1.0),))
    best = judge.goodput(serve)
    assert best.goodput_per_s > 0
    assert judge.attainment(serve, best.goodput_per_s) >= made.attainment
    assert judge.attainment(serve, best.goodput_per_s * 1.02) < made.attainment


def test_the_shape_it_chooses_attains_most_on_the_whole_cluster() -> None:
    """Against every shape forced in turn, on a trace that the planner has not seen, near the edge."""
    made = problem(rate_per_s=15.0)
    trace = made.sample(2000, 15.0, 77)
    judge = Judge(made, 1, lambda met: met.joint)

    def attainment(system: System) -> float:
        deployment = Deployment(system.plan(made), made.cluster, made.model)
        return Judge(replace(made, sample=lambda *_: trace), 1, judge.part).attainment(
            lambda sample: Simulated(made.costs).serve(deployment, sample).records, 15.0
        )

    chosen = attainment(System())
    forced = [attainment(System(tp=tp, pp=pp)) for tp, pp in ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2))]
    assert chosen >= max(forced) - 0.02
    assert chosen > min(forced) + 0.05  # the choice matters here


def test_each_type_of_a_mixed_cluster_gets_its_own_replicas() -> None:
    made = problem("cloud-32")
    plan = System().plan(made)
    types = [{made.cluster.devices[device].gpu for device in replica.devices} for replica in plan.replicas]
    assert all(len(kinds) == 1 for kinds in types)
    assert set().union(*types) == set(made.cluster.gpus)
    assert {replica.phase for replica in plan.replicas} == {Phase.BOTH}
    plan.check(made.cluster, made.model)


def test_a_model_that_fits_nowhere_is_refused_in_words() -> None:
    made = problem("cloud-8-a40-3090ti-40gbit")
    with pytest.raises(ValueError, match=r"vllm: no GPU type of cloud-8-a40-3090ti-40gbit holds llama-3\.1-70b"):
        System(tp=1, pp=1).plan(replace(made, model=load_model("llama-3.1-70b")))
