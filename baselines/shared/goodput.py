"""The highest rate a group of replicas sustains, found by simulating it: what planners of uniform instances choose by.

DistServe calls it goodput and searches it the same way (OSDI 2024, section 4, ``simulate`` and a binary search).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thunderserve.backend import Deployment
from thunderserve.cost.step_table import StepTable
from thunderserve.policy import Problem
from thunderserve.serving.records import Met, Records, meets
from thunderserve.spec.plan import Flow, Plan, Replica, Router
from thunderserve.spec.trace import Trace

Serve = Callable[[Trace], Records]

BURST = 1e3
"""Requests a second that no instance can follow: what it does then is its throughput."""
HALVINGS = 7
"""Of the rate interval: the answer is within 1 % of its upper end."""


def server(problem: Problem, replicas: tuple[Replica, ...], flows: tuple[Flow, ...], router: Router = "flows") -> Serve:
    """Serves traces on these replicas alone, in simulation."""
    from thunderserve.simulator.backend import Simulated

    plan = Plan(system="candidate", replicas=replicas, flows=flows, router=router)
    deployment = Deployment(plan, problem.cluster, problem.model)
    backend = Simulated(problem.costs)
    return lambda trace: backend.serve(deployment, trace).records


def solo_server(problem: Problem, replica: Replica) -> Serve:
    """Serves traces on one colocated replica, in simulation."""
    return server(problem, (replica,), (Flow(prefill=0, decode=0, share=1.0),))


@dataclass(frozen=True, order=True)
class Goodput:
    """Rates in requests a second. Ordered by goodput, then by throughput where no rate attains the SLO."""

    goodput_per_s: float
    throughput_per_s: float
    """Of a burst, to the end of its last request."""

    def per_gpu(self, num_gpus: int) -> Goodput:
        """Both rates divided by the cards that make them."""
        return Goodput(self.goodput_per_s / num_gpus, self.throughput_per_s / num_gpus)

    def rate_per_s(self) -> float:
        """What to count on: the goodput, or the throughput where there is none."""
        return self.goodput_per_s or self.throughput_per_s


@dataclass(frozen=True)
class Judge:
    """Holds what a group of replicas did against the problem's SLO, on a seeded sample of its workload."""

    problem: Problem
    requests: int
    part: Callable[[Met], np.ndarray[tuple[int], np.dtype[np.bool_]]]
    """Which limits count: a prefill instance answers for TTFT, a decode instance for TPOT."""
    outputs: int | None = None
    """Cut outputs to this many tokens; 1 leaves prefill alone."""

    def trace(self, rate_per_s: float) -> Trace:
        """The sample at a rate: the same requests, nearer or farther apart."""
        drawn = self.problem.sample(self.requests, rate_per_s, self.problem.seed)
        if self.outputs is None:
            return drawn
        return Trace(drawn.arrival_s, drawn.prompt_tokens, np.minimum(drawn.output_tokens, self.outputs))

    def attainment(self, serve: Serve, rate_per_s: float) -> float:
        """Share of the sample that met the limits at a rate."""
        trace = self.trace(rate_per_s)
        limits = self.problem.slo.limits(self.problem.alone(trace))
        return float(np.mean(self.part(meets(serve(trace), limits))))

    def goodput(self, serve: Serve) -> Goodput:
        """Binary search below the lowest doubling of the burst's throughput that fails.

        A burst ends with a tail of small batches, so the sustained rate may lie above its throughput.
        """
        records = serve(self.trace(BURST))
        end_s = float(np.max(records.finish_s, initial=0.0, where=records.finished))
        throughput = float(records.finished.sum()) / end_s if end_s > 0 else 0.0
        low, high = 0.0, throughput
        while 0 < high < BURST and self.attainment(serve, high) >= self.problem.attainment:
            low, high = high, 2 * high
        for _ in range(HALVINGS if high > 0 else 0):
            middle = (low + high) / 2
            attained = self.attainment(serve, middle) >= self.problem.attainment
            low, high = (middle, high) if attained else (low, middle)
        return Goodput(low, throughput)


def decode_alone(problem: Problem, decode: Replica) -> Serve:
    """Serves traces on a decode instance to which KV comes at once: prefill and links that take no time.

    DistServe searches its decode shapes this way. TPOT then counts decode and its queue alone.
    """
    from thunderserve.simulator.backend import records_of, replica_setup
    from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup

    setup = replica_setup(problem.model, decode, problem.cluster, problem.costs)
    instant = ReplicaSetup(instantaneous(setup.table), setup.limits._replace(blocks=1 << 40, max_sequences=1 << 16))
    fleet = Fleet([instant, setup], [RouteSetup(0, 1)])
    return lambda trace: records_of(trace, fleet.run(trace.arrival_s, trace.prompt_tokens, trace.output_tokens))


def instantaneous(table: StepTable) -> StepTable:
    """The same knots, and no time at all."""
    return table._replace(**{name: 0 * value for name, value in table._asdict().items() if not name.endswith("knots")})
