"""What the search bench plans for: the Azure workloads on cloud-32, and random clusters loaded around what they can carry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from thunderserve.policy import Problem
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError
from thunderserve.spec.generate import random_cluster
from thunderserve.spec.load import load_cluster, load_gpu, load_model
from thunderserve.spec.slo import Slo
from thunderserve.spec.trace import Trace

if TYPE_CHECKING:
    from thunderserve.cost.alone import Alone
    from thunderserve.cost.source import CostSource
    from thunderserve.scheduler.lower import Lower
    from thunderserve.scheduler.moves import Phases
    from thunderserve.scheduler.solution import Solution
    from thunderserve.workload.workload import Workload

RATES_PER_S = {"azure-code": 14.0, "azure-conv": 9.0}
"""Loads of cloud-32 with LLaMA-30B under which good plans attain most, not all."""
LONGER = 4
"""A search's longer sample over its short one, as in the defaults of the system."""
MODELS = ("llama-7b", "llama-13b")
LOADS = (0.6, 1.6)
"""Range of a random problem's rate over the capacity of its first plan."""


@dataclass(frozen=True)
class Case:
    """A problem with its lower level, not yet used, and the clustered start."""

    name: str
    problem: Problem
    lower: Lower
    start: Solution


@cache
def costs() -> CostSource:
    """The default cost model."""
    from thunderserve.cost.roofline import Roofline

    return Roofline()


@cache
def workload(name: str) -> Workload:
    """A workload of the catalogue."""
    from thunderserve.workload.build import load

    return load(name)


@cache
def alone(model: str) -> Alone:
    """Latencies of a request alone on the reference GPU."""
    from thunderserve.cost.alone import alone_on

    return alone_on(load_model(model), load_gpu("a100-80g", "datasheet"), costs())


def _sample(name: str, most: int, requests: int, rate_per_s: float, seed: int) -> Trace:
    return workload(name).sample(requests, rate_per_s, seed, max_context=most)


def problem_of(cluster: Cluster, model: str, name: str, rate_per_s: float, *, scale: float = 5.0) -> Problem:
    """Everything a policy may know."""
    spec = load_model(model)
    return Problem(
        cluster=cluster,
        model=spec,
        rate_per_s=rate_per_s,
        slo=Slo(scale=scale),
        sample=partial(_sample, name, spec.max_context),
        alone=alone(model),
        costs=costs(),
    )


def cloud(name: str) -> Problem:
    """LLaMA-30B on cloud-32 under an Azure workload."""
    return problem_of(load_cluster("cloud-32", "datasheet"), "llama-30b", name, RATES_PER_S[name])


def case_of(name: str, problem: Problem, phases: Phases, requests: int = 600) -> Case:
    """Prepare a problem. Raises ValueError, in words, if it cannot be served in these phases."""
    from thunderserve.scheduler.search import start
    from thunderserve.scheduler.system import System

    lower = System(requests=requests, longer_requests=LONGER * requests).lower(problem)
    return Case(name, problem, lower, start(lower, phases, "cluster", np.random.default_rng(0)))


def random_case(devices: int, seed: int, phases: Phases, requests: int = 600) -> Case | None:
    """A random cluster, model, workload, rate and SLO; None if the cluster does not hold the model twice."""
    rng = np.random.default_rng((devices, seed))
    # Cards of a node are alike to a plan; single cards on many nodes are what makes trying all plans slow.
    cluster = random_cluster(devices, seed, node_sizes=(1, 2, 4) if devices <= 6 else (2, 4))
    model, name = MODELS[int(rng.integers(len(MODELS)))], list(RATES_PER_S)[int(rng.integers(2))]
    problem = problem_of(cluster, model, name, 1.0, scale=float(rng.uniform(4, 12)))
    try:
        first = case_of(cluster.name, problem, phases, 50)
        carried_per_s = first.lower.needed(first.start).capacity_per_s
        loaded = replace(problem, rate_per_s=carried_per_s * float(rng.uniform(*LOADS)))
        return case_of(f"{cluster.name} {model} {name}", loaded, phases, requests)
    except (SpecError, ValueError):
        return None
