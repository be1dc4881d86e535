"""What phase splitting gains in the eight-GPU test under one assumption after another about how the paper measured it.

The paper's ratio, split at 40 Gbit/s with 4-bit KV over serving without a split, is known; what it was divided by is not. So
both sides are simulated under each assumption that its text leaves open: how the baseline batches and who planned it, and
where and how both were measured. Nothing is fitted: every assumption is a setting that somebody has used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from harness.bench._bandwidth_runs import Best, best_of, cases, flood, makespan_s
from harness.plan.bottleneck import bottleneck
from harness.plan.case import Case
from harness.plan.judge import judge
from harness.sweep import systems
from thunderserve.spec.plan import Flow, Plan, Router
from thunderserve.spec.slo import Slo
from thunderserve.spec.trace import Trace

PAPER = 3292 / 1610
"""Split over not split, second-hand."""
GBIT_PER_S = 40
LONG_CONTEXT = 8192
"""Tokens of the longest request of the Azure coding trace, and some."""


@dataclass(frozen=True)
class Surroundings:
    """Where both sides of a ratio are measured."""

    title: str
    workload: str = "azure-code"
    catalogue: str = "paper"
    keeps_long: bool = False
    """Whether requests beyond the model's context stay (``model_context: keep``)."""
    bridged: bool = True
    """Whether the pairs of A40 have NVLink bridges."""

    def cases(self, rates: Sequence[float]) -> list[Case]:
        """The question, once a rate."""
        return [self._changed(case) for case in cases(GBIT_PER_S, self.catalogue, self.workload, rates)]

    def _changed(self, case: Case) -> Case:
        if self.keeps_long:
            case = replace(case, model=case.model.model_copy(update={"max_context": LONG_CONTEXT}))
        if not self.bridged:
            bare = case.cluster.model_copy(update={"bridges": ()})
            # Built anew: a copy would keep look-ups of the cluster with bridges.
            case = replace(case, cluster=type(bare).model_validate(bare.model_dump()))
        return case


SURROUNDINGS = (
    Surroundings("as above"),
    Surroundings("requests beyond 2,048 tokens kept", keeps_long=True),
    Surroundings("every request 1,024 + 16 tokens", workload="fixed-1024-16"),
    Surroundings("the conversation trace", workload="azure-conv"),
    Surroundings("the cards by their data sheets", catalogue="datasheet"),
    Surroundings("no NVLink between A40", bridged=False),
)
SPLIT: tuple[str, dict[str, object]] = ("thunderserve", {})
CHUNKED: tuple[str, dict[str, object]] = ("thunderserve", {"phase_split": "off"})
WHOLE: tuple[str, dict[str, object]] = ("vllm", {"scheduler": "prefill_first"})
HEXGEN: tuple[str, dict[str, object]] = ("hexgen", {})


@dataclass(frozen=True)
class Baseline:
    """Serving without a split: who plans, and what is then changed."""

    title: str
    planner: tuple[str, dict[str, object]]
    served: Callable[[Best, Trace], float]
    """Tokens a second of the plan, all requests at the door."""


def as_planned(best: Best, trace: Trace) -> float:
    """The plan as it is."""
    return _tokens(trace) / makespan_s(best.case, best.plan, trace)


def in_turn(best: Best, trace: Trace) -> float:
    """Requests are dealt to the replicas in turn, however fast each is."""
    replicas = best.plan.replicas
    even = tuple(Flow(prefill=i, decode=i, share=1 / len(replicas)) for i in range(len(replicas)))
    return _tokens(trace) / makespan_s(best.case, _with(best.plan, flows=even, router="flows"), trace)


def static(size: int) -> Callable[[Best, Trace], float]:
    """Batches of ``size`` requests, each served to the end of its longest before the next begins.

    The batcher knows no such policy, and needs none: whole prompts first, ``size`` sequences at most, and outputs as long as
    the longest of their batch make it do the same. What is generated beyond a request's own output is not counted. Each
    replica serves the requests alone, so that batches stay together; a flooded fleet serves what its replicas do.
    """

    def served(best: Best, trace: Trace) -> float:
        padded = replace(trace, output_tokens=longest_of_batch(trace, size))
        return sum(
            _tokens(trace) / makespan_s(best.case, _alone(best.plan, i, size), padded)
            for i in range(len(best.plan.replicas))
        )

    return served


BASELINES = (
    Baseline("chunked prefill", CHUNKED, as_planned),
    Baseline("HexGen's plan, chunked prefill", HEXGEN, as_planned),
    Baseline("whole prompts first", WHOLE, as_planned),
    Baseline("the same, replicas in turn", WHOLE, in_turn),
    Baseline("static batches of 16", WHOLE, static(16)),
    Baseline("static batches of 4", WHOLE, static(4)),
    Baseline("one request at a time", WHOLE, static(1)),
)


@dataclass(frozen=True)
class Row:
    """Split over each baseline, under one assumption."""

    title: str
    split: float
    """Tokens a second; requests a second where a row says so."""
    ratios: tuple[float, ...]
    """One a baseline; NaN where it was not measured."""


def rows(rates: Sequence[float], requests: int, surroundings: Sequence[Surroundings] = SURROUNDINGS) -> Iterator[Row]:
    """One row for each of the surroundings, all requests at the door."""
    for where in surroundings:
        asked = where.cases(rates)
        trace = flood(asked[0], requests)
        split = best_of(*SPLIT, asked, requests).tokens_per_s
        plans = {title: best_of(*planner, asked, requests) for title, planner in _planners().items()}
        yield Row(where.title, split, tuple(split / one.served(plans[_key(one.planner)], trace) for one in BASELINES))


def in_time(rates: Sequence[float], requests: int, scales: Sequence[float] = (5.0, 10.0)) -> Iterator[Row]:
    """One row for each SLO: the highest rate at which 90 % meet it, instead of a flood. Plans as they are made."""
    for scale in scales:
        asked = [
            replace(case, setting=case.setting.model_copy(update={"slo": Slo(scale=scale)}))
            for case in SURROUNDINGS[0].cases(rates)
        ]
        split = _holds_per_s(*SPLIT, asked, requests)
        held = {title: _holds_per_s(*planner, asked, requests) for title, planner in _planners().items()}
        ratios = tuple(split / held[_key(one.planner)] if one.served is as_planned else np.nan for one in BASELINES)
        yield Row(f"90 % within an SLO of x{scale:g}, requests/s", split, ratios)


def table(found: Sequence[Row]) -> Table:
    """Assumptions down, baselines across, ratios inside."""
    shown = Table("assumption", "split", *(one.title for one in BASELINES), title_justify="left")
    shown.title = f"Split, 4 bit, {GBIT_PER_S} Gbit/s over serving without a split; the paper: {PAPER:.2f}"
    for row in found:
        shown.add_row(
            row.title, f"{row.split:,.4g}", *("" if np.isnan(ratio) else f"{ratio:.2f}" for ratio in row.ratios)
        )
    return shown


def longest_of_batch(trace: Trace, size: int) -> NDArray[np.int64]:
    """(N,) output tokens of the longest in each run of ``size`` requests."""
    starts = np.arange(0, len(trace), size)
    return np.repeat(np.maximum.reduceat(trace.output_tokens, starts), size)[: len(trace)]


def _planners() -> dict[str, tuple[str, dict[str, object]]]:
    return {_key(one.planner): one.planner for one in BASELINES}


def _key(planner: tuple[str, dict[str, object]]) -> str:
    return repr(planner)


def _holds_per_s(system: str, options: dict[str, object], asked: Sequence[Case], requests: int) -> float:
    """The highest rate at which 90 % of the requests meet the SLO, under the best of the plans. Zero if none does."""
    plans = [systems.build(system, options).plan(case.problem()) for case in asked]
    held = [
        bottleneck(judge(case, plan, requests=requests, seed=0)).holds_per_s
        for case, plan in zip(asked, plans, strict=True)
    ]
    return max(one or 0.0 for one in held)


def _tokens(trace: Trace) -> int:
    return int((trace.prompt_tokens + trace.output_tokens).sum())


def _with(plan: Plan, *, flows: tuple[Flow, ...], router: Router) -> Plan:
    return plan.model_copy(update={"flows": flows, "router": router})


def _alone(plan: Plan, place: int, size: int) -> Plan:
    """One replica of a plan, with batches of ``size``."""
    replica = plan.replicas[place]
    batching = replica.batching.model_copy(update={"policy": "prefill_first", "max_sequences": size})
    return Plan(
        system=plan.system,
        replicas=(replica.model_copy(update={"batching": batching}),),
        flows=(Flow(prefill=0, decode=0, share=1.0),),
    )
