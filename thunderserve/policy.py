"""The first seam: who makes a plan. Systems differ only behind this page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Plan
from thunderserve.spec.slo import Latencies, Slo
from thunderserve.spec.trace import Trace

if TYPE_CHECKING:
    from thunderserve.cost.source import CostSource


@dataclass(frozen=True)
class Problem:
    """All a policy may know. The trace that will be replayed is not part of it: only a way to draw others like it."""

    cluster: Cluster
    model: ModelSpec
    rate_per_s: float
    """Requests a second that the plan must carry."""
    slo: Slo
    sample: Callable[[int, float, int], Trace]
    """``sample(requests, rate_per_s, seed)`` draws a trace of the workload the plan is for."""
    alone: Callable[[Trace], Latencies]
    """Latencies of each request alone on the reference GPU: the base of a scaled SLO."""
    costs: CostSource
    """Where step and transfer times come from."""
    attainment: float = 0.9
    """Share of requests that must meet the SLO."""
    seed: int = 0


class Policy(Protocol):
    """Turns a problem into a plan, the same plan for the same problem and seed.

    A policy is a frozen dataclass whose fields are its options: ``system: {name: distserve, affinity: low}`` in a sweep
    builds ``baselines.distserve.System(affinity="low")``. Each module of ``baselines`` exports exactly one ``System``.
    """

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError, in words, when the cluster cannot serve the model this way."""
