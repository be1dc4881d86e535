"""What every system keeps to: the modules of ``baselines``, and the template that shows what is enough."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from problems import lognormal, problem

from harness.sweep import systems
from thunderserve.backend import Deployment
from thunderserve.policy import Problem
from thunderserve.serving.records import Status
from thunderserve.spec.cluster import Cluster, Link
from thunderserve.spec.errors import SpecError
from thunderserve.spec.plan import Plan

TEMPLATE = str(Path(__file__).resolve().parents[2] / "harness" / "templates" / "system.py")
SYSTEMS = [*systems.names(), TEMPLATE]
REQUESTS = 120


@cache
def small() -> Problem:
    """Eight A100 of one node, LLaMA-13B, two requests a second."""
    return problem(model="llama-13b", rate_per_s=2.0)


@cache
def planned(name: str) -> Plan:
    return systems.build(name, {}).plan(small())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_a_frozen_dataclass_with_a_default_for_every_option(name: str) -> None:
    kind = systems.system_class(name)
    assert kind() == systems.build(name, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), next(iter(systems.options(name)), "anything"), None)
    for option, default in systems.options(name).items():
        assert systems.build(name, {option: default}) == kind()


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="unknown option"):
        systems.build(name, {"no_such_option": 1})


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_plan_can_be_built(name: str) -> None:
    planned(name).check(small().cluster, small().model)


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_plans_the_same_twice(name: str) -> None:
    assert systems.build(name, {}).plan(small()) == planned(name)


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_plan_survives_json_and_pickle(name: str) -> None:
    plan = planned(name)
    assert Plan.model_validate(json.loads(json.dumps(plan.model_dump(mode="json")))) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_plan_serves_every_request(name: str) -> None:
    from thunderserve.simulator.backend import Simulated

    trace = lognormal(REQUESTS, 2.0, 99)
    backend = Simulated(small().costs)
    records = backend.serve(Deployment(planned(name), small().cluster, small().model), trace).records
    np.testing.assert_array_equal(records.arrival_s, trace.arrival_s)
    assert (records.status == Status.FINISHED).all()
    assert (records.first_token_s > trace.arrival_s).all()
    assert (records.finish_s >= records.first_token_s).all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_model_that_does_not_fit_is_refused_in_words(name: str) -> None:
    one_card = Cluster(
        name="one-card",
        gpus=small().cluster.gpus,
        devices=small().cluster.devices[:1],
        inside={small().cluster.devices[0].node: Link(latency_s=1e-5, bytes_per_s=1e9)},
    )
    impossible = dataclasses.replace(problem(model="llama-2-70b"), cluster=one_card)
    with pytest.raises(ValueError, match=r"\w+ .*\w+"):
        systems.build(name, {}).plan(impossible)


def test_no_system_imports_a_compiler_or_torch_when_it_is_named() -> None:
    import subprocess

    code = (
        "import sys; from harness.sweep import systems; [systems.options(n) for n in systems.names()]; "
        "print(*({'numba', 'torch', 'scipy', 'pandas', 'networkx'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
