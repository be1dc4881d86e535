"""Problems that the scheduler's tests share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from thunderserve.cost.alone import alone_on
from thunderserve.cost.roofline import Roofline
from thunderserve.policy import Problem
from thunderserve.scheduler.batching import BatchingRules
from thunderserve.scheduler.lower import Lower, lower_level
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.kv import INT4
from thunderserve.spec.load import load_cluster, load_gpu, load_model
from thunderserve.spec.slo import Latencies, Slo
from thunderserve.spec.trace import Trace

COSTS = Roofline()


def lognormal(requests: int, rate_per_s: float, seed: int) -> Trace:
    """Poisson arrivals, lengths around 550 and 90 tokens."""
    rng = np.random.default_rng(seed)
    return Trace(
        np.cumsum(rng.exponential(1, requests)) / rate_per_s,
        np.clip(rng.lognormal(6.3, 0.8, requests), 10, 1500).astype(np.int64),
        np.clip(rng.lognormal(4.5, 1.0, requests), 1, 500).astype(np.int64),
    )


@cache
def alone(model: str) -> Callable[[Trace], Latencies]:
    return alone_on(load_model(model), load_gpu("a100-80g", "datasheet"), COSTS)


def make_problem(cluster: Cluster | str, model: str, rate_per_s: float, scale: float = 5.0, seed: int = 0) -> Problem:
    return Problem(
        cluster=load_cluster(cluster, "datasheet") if isinstance(cluster, str) else cluster,
        model=load_model(model),
        rate_per_s=rate_per_s,
        slo=Slo(scale=scale),
        sample=lognormal,
        alone=alone(model),
        costs=COSTS,
        seed=seed,
    )


def make_lower(problem: Problem, requests: int = 200) -> Lower:
    return lower_level(problem, (INT4,), batching=BatchingRules(), requests=requests)
