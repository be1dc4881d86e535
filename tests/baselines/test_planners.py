"""What the five published planners have in common: they plan or refuse, repeat themselves, and cost nothing to import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
from problems import problem

from baselines import alpa, helix, hexgen, hexgen2, splitwise
from baselines.shared import extras
from baselines.shared.rating import Rater
from thunderserve.spec.errors import SpecError
from thunderserve.spec.generate import random_cluster
from thunderserve.spec.load import load_model
from thunderserve.spec.plan import Plan
from thunderserve.spec.trace import Trace

QUICK = (
    hexgen.System(population=4, offspring=4, generations=2, requests=100),
    hexgen2.System(),
    splitwise.System(requests=100),
    helix.System(nodes=20),
    alpa.System(requests=100),
)
MODELS = ("llama-7b", "llama-13b", "llama-3.1-8b", "opt-13b")


def planned(system, made) -> tuple[Plan | None, str]:
    """The plan, or why there is none: both are good ends."""
    try:
        return system.plan(made), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("system", QUICK, ids=lambda system: type(system).__module__)
def test_on_any_cluster_it_plans_or_refuses_in_words(system, seed) -> None:
    made = problem(model=MODELS[seed % 4], rate_per_s=2.0)
    made = replace(made, cluster=random_cluster(1 + seed, seed))
    name = type(system).__module__.removeprefix("baselines.")
    plan, refusal = planned(system, made)
    if plan is None:
        assert refusal.startswith(f"{name}: ")
        assert made.cluster.name in refusal
        return
    assert plan.system == name
    assert plan == system.plan(made)
    plan.check(made.cluster, made.model)
    assert Rater(made, 100).rate(plan).attainment > 0


@pytest.mark.parametrize("system", QUICK, ids=lambda system: type(system).__module__)
def test_requests_of_a_single_token_are_planned_for(system) -> None:
    """Nothing is ever decoded: no rate may divide by zero steps."""
    made = problem("homogeneous-8xl40s", "llama-7b")

    def sample(requests: int, rate_per_s: float, seed: int) -> Trace:
        drawn = made.sample(requests, rate_per_s, seed)
        return Trace(drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens * 0 + 1)

    single = replace(made, sample=sample)
    assert Rater(single, 100).rate(system.plan(single)).attainment > 0.9


@pytest.mark.parametrize(("system", "library"), [("hexgen2", "networkx"), ("helix", "scipy"), ("alpa", "scipy")])
def test_a_missing_library_is_named_with_its_remedy(system, library, monkeypatch) -> None:
    def absent(module: str) -> object:
        raise ImportError(module)

    monkeypatch.setattr(extras, "import_module", absent)
    with pytest.raises(SpecError, match=rf"{system} needs {library}.*pip install 'thunderserve\[planners\]'"):
        import_module(f"baselines.{system}").System().plan(problem("inhouse-8xa100"))


def test_planners_import_nothing_heavy() -> None:
    modules = ", ".join(type(system).__module__ for system in QUICK)
    heavy = "('numba', 'scipy', 'networkx', 'torch', 'pandas', 'thunderserve.scheduler')"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_of_eight_kv_heads_is_sharded_by_its_query_heads() -> None:
    made = problem("inhouse-8xa100", "llama-2-70b", rate_per_s=1.0)
    assert load_model("llama-2-70b").num_kv_heads == 8
    for system in QUICK:
        system.plan(made).check(made.cluster, made.model)
