"""One run of the eight-GPU test: plan for several rates, flood the plans, keep the one that serves most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.plan.case import Case, open_case
from harness.plan.file import Setting
from harness.sweep import systems
from thunderserve.backend import Deployment
from thunderserve.simulator.backend import Simulated
from thunderserve.spec.plan import Plan
from thunderserve.spec.trace import Trace

FLOOD_PER_S = 50.0
"""Requests a second: far more than eight cards can serve."""


class Best(NamedTuple):
    """The plan that serves most, over the rates it was asked to plan for."""

    tokens_per_s: float
    plan: Plan
    case: Case


def cases(gbit_per_s: int, catalogue: str, workload: str, rates: Sequence[float]) -> list[Case]:
    """The eight cards with such links, once a rate to plan for."""
    return [
        open_case(
            Setting.model_validate(
                {
                    "cluster": f"cloud-8-a40-3090ti-{gbit_per_s}gbit",
                    "catalogue": catalogue,
                    "model": "llama-30b",
                    "workload": workload,
                    "rate_per_s": rate,
                }
            ),
            Path("bench"),
        )
        for rate in rates
    ]


def best_of(system: str, options: dict[str, object], asked: Sequence[Case], requests: int) -> Best:
    """The most that a system serves. Raises ValueError when no rate gave a plan."""
    tried = []
    for case in asked:
        plan = systems.build(system, options).plan(case.problem())
        tried.append(Best(flooded(case, plan, requests), plan, case))
    return max(tried, key=lambda best: best.tokens_per_s)


def flood(case: Case, requests: int) -> Trace:
    """Requests that all come at once, the same for every plan."""
    return case.sample(requests, FLOOD_PER_S, 5)


def flooded(case: Case, plan: Plan, requests: int) -> float:
    """Prompt and output tokens a second, from the first arrival to the last token, when everybody comes at once."""
    trace = flood(case, requests)
    return int((trace.prompt_tokens + trace.output_tokens).sum()) / makespan_s(case, plan, trace)


def makespan_s(case: Case, plan: Plan, trace: Trace) -> float:
    """Seconds to the last token. Raises ValueError if requests are lost."""
    records = Simulated(case.costs).serve(Deployment(plan, case.cluster, case.model), trace).records
    if not records.finished.all():
        raise ValueError("a flooded plan lost requests")
    return float(np.max(records.finish_s))
