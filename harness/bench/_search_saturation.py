"""Problems near capacity, where a short trace flatters plans that cannot carry the load for long."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from harness.bench._search_problems import problem_of, random_case
from thunderserve.policy import Problem
from thunderserve.scheduler import search
from thunderserve.scheduler.moves import SPLIT
from thunderserve.scheduler.sample import further
from thunderserve.scheduler.system import System
from thunderserve.spec.generate import random_cluster
from thunderserve.spec.load import load_cluster

JUDGES = range(50_000_000, 50_000_004)
"""Seeds of the samples that plans are judged on, far from those of any search."""
REQUESTS = 3000
"""Of each of these samples."""


def judged(system: System, problem: Problem, seconds: float) -> float:
    """Mean attainment on fresh requests of the plan that ``seconds`` CPU seconds find, all of planning included."""
    began_s = time.process_time()
    unlimited = replace(system, steps=10**9, no_gain=10**9)
    lower = unlimited.lower(problem)
    settings = replace(unlimited.settings(problem), ends_s=began_s + seconds, clock=time.process_time)
    estimate = search.run(problem, lower, settings).estimate
    samples = (further(problem, lower.estimator.sample, REQUESTS, seed) for seed in JUDGES)
    return statistics.mean(lower.simulation.on(sample).attainment(estimate) for sample in samples)


def _cloud(workload: str, rate_per_s: float, seed: int) -> Problem:
    problem = problem_of(load_cluster("cloud-32", "datasheet"), "llama-30b", workload, rate_per_s)
    return replace(problem, seed=seed)


def _mixed(cluster_seed: int, workload: str, rate_per_s: float, seed: int) -> Problem:
    return replace(problem_of(random_cluster(64, cluster_seed), "llama-30b", workload, rate_per_s), seed=seed)


def _small(cards: int, cluster_seed: int, load: float, seed: int) -> Problem:
    case = random_case(cards, cluster_seed, SPLIT, 50)
    if case is None:
        raise ValueError(f"random cluster {cluster_seed} of {cards} cards does not hold its model twice")
    return replace(case.problem, rate_per_s=load * case.problem.rate_per_s, seed=seed)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "cloud-32 azure-code, 16 requests/s": partial(_cloud, "azure-code", 16.0),
    "cloud-32 azure-code, 20 requests/s": partial(_cloud, "azure-code", 20.0),
    "cloud-32 azure-conv, 9.5 requests/s": partial(_cloud, "azure-conv", 9.5),
    "cloud-32 azure-conv, 10.5 requests/s": partial(_cloud, "azure-conv", 10.5),
    "64 cards azure-conv, 16 requests/s": partial(_mixed, 1, "azure-conv", 16.0),
    "64 cards azure-code, 21 requests/s": partial(_mixed, 2, "azure-code", 21.12),
    "7 cards (seed 52)": partial(_small, 7, 52, 1.0),
    "8 cards (seed 3)": partial(_small, 8, 3, 1.4),
    "10 cards (seed 5)": partial(_small, 10, 5, 1.4),
    "12 cards (seed 7)": partial(_small, 12, 7, 1.05),
}
"""By a seed that draws the planner's samples: loads under which the best plans known attain 0.85 to 0.996."""
