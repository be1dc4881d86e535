"""Plans judged by simulation: the objective of the planners that search over whole deployments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from baselines.shared.memo import Remembered
from thunderserve.backend import Deployment
from thunderserve.policy import Problem
from thunderserve.serving.records import meets
from thunderserve.spec.plan import Plan


class Rating(NamedTuple):
    """What a plan did on the sample. Better plans compare greater."""

    attainment: float
    """Share of requests within all limits of the SLO."""
    speed_per_s: float
    """One over the mean E2E latency: decides between plans of equal attainment."""


class Rater:
    """Simulates plans on one seeded sample of a problem's workload, at its rate."""

    def __init__(self, problem: Problem, requests: int, costs: Remembered | None = None) -> None:
        from thunderserve.simulator.backend import Simulated

        self.problem, self.evaluations = problem, 0
        self.trace = problem.sample(requests, problem.rate_per_s, problem.seed)
        self.limits = problem.slo.limits(problem.alone(self.trace))
        self.backend = Simulated(costs or Remembered(problem.costs))

    def rate(self, plan: Plan) -> Rating:
        """Serve the sample under ``plan``."""
        self.evaluations += 1
        deployment = Deployment(plan, self.problem.cluster, self.problem.model)
        records = self.backend.serve(deployment, self.trace).records
        attained = float(np.mean(meets(records, self.limits).joint))
        e2e_s = np.where(records.finished, records.latencies.e2e_s, np.inf)
        return Rating(attained, 1 / float(np.mean(e2e_s)))
