"""Small planning problems that the tests of several systems share."""

from __future__ import annotations

import numpy as np

from thunderserve.cost.alone import alone_on
from thunderserve.cost.roofline import Roofline
from thunderserve.policy import Problem
from thunderserve.spec.load import load_cluster, load_gpu, load_model
from thunderserve.spec.slo import Slo
from thunderserve.spec.trace import Trace


def lognormal(requests: int, rate_per_s: float, seed: int) -> Trace:
    """Poisson arrivals, lengths around 550 and 90 tokens."""
    rng = np.random.default_rng(seed)
    return Trace(
        np.cumsum(rng.exponential(1, requests)) / rate_per_s,
        np.clip(rng.lognormal(6.3, 0.8, requests), 10, 1500).astype(np.int64),
        np.clip(rng.lognormal(4.5, 1.0, requests), 1, 500).astype(np.int64),
    )


def problem(
    cluster: str = "inhouse-8xa100", model: str = "llama-30b", rate_per_s: float = 4.0, scale: float = 5.0
) -> Problem:
    """A shipped cluster and model under a seeded lognormal load."""
    costs, spec = Roofline(), load_model(model)
    return Problem(
        cluster=load_cluster(cluster, "datasheet"),
        model=spec,
        rate_per_s=rate_per_s,
        slo=Slo(scale=scale),
        sample=lognormal,
        alone=alone_on(spec, load_gpu("a100-80g", "datasheet"), costs),
        costs=costs,
    )
