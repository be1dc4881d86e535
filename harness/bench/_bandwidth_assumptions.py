"""``harness bench bandwidth --assumptions``: what the ratio of split to colocated serving hangs on, one assumption at a time.

Each row changes one thing of the eight-GPU test and measures anew: what stands behind "colocated", which requests, which
figures of the cards, what counts as throughput. Nothing is fitted to the paper's ratios; they stand beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.table import Table

from harness.bench.bandwidth import Best, Row, best_of
from harness.plan.case import Case
from thunderserve.backend import Deployment
from thunderserve.serving.records import meets
from thunderserve.simulator.backend import Simulated
from thunderserve.spec.plan import Plan

PAPER = (3292 / 1610, 2196 / 1610)
"""Split at 40 and at 5 Gbit/s over colocated, both at 4 bit (second-hand)."""
ATTAINMENT = 0.9
HALVINGS = 7
MOST_PER_S = 40.0


@dataclass(frozen=True)
class Assumption:
    """One way to do the test."""

    title: str
    colocated: Row
    changes: dict[str, object] = field(default_factory=dict)
    """Of the command's arguments."""
    within_slo: bool = False
    """Throughput at the highest rate that holds the SLO, in the place of that with everybody at the door."""


CHUNKED = Row("colocated", 40, "thunderserve", {"phase_split": "off"})
WHOLE = Row("whole prompts first", 40, "vllm", {"scheduler": "prefill_first"})


def _few(sequences: int) -> Row:
    return Row("few sequences", 40, "vllm", {"scheduler": "prefill_first", "max_sequences": sequences})


ASSUMPTIONS = (
    Assumption("chunked prefill, planned by us (the test as above)", CHUNKED),
    Assumption("whole prompts first (vLLM V0)", WHOLE),
    Assumption("the same, batches of at most 32 sequences", _few(32)),
    Assumption("the same, batches of at most 8 sequences", _few(8)),
    Assumption("one sequence at a time", _few(1)),
    Assumption("planned by HexGen", Row("hexgen", 40, "hexgen", {})),
    Assumption("one pipeline for all requests, planned as Alpa does", Row("alpa", 40, "alpa", {})),
    Assumption("prompts of 1,024 and outputs of 16 tokens", CHUNKED, {"workload": "fixed-1024-16"}),
    Assumption("prompts of 512 and outputs of 128 tokens", CHUNKED, {"workload": "fixed-512-128"}),
    Assumption("conversation", CHUNKED, {"workload": "azure-conv"}),
    Assumption("cards by their data sheets", CHUNKED, {"catalogue": "datasheet"}),
    Assumption("within the SLO (x5), chunked prefill", CHUNKED, within_slo=True),
    Assumption("within the SLO (x5), whole prompts first", WHOLE, within_slo=True),
)


class Ratios(NamedTuple):
    """What an assumption makes of the test."""

    colocated_tokens_per_s: float
    at_40_gbit: float
    at_5_gbit: float


def ratios_under(one: Assumption, given: argparse.Namespace) -> Ratios:
    """Plan and measure colocated and split serving under an assumption. Raises ValueError where nothing can be planned."""
    changed = argparse.Namespace(**(vars(given) | one.changes))
    rows = (one.colocated, Row("split", 40, "thunderserve", {}), Row("split", 5, "thunderserve", {}))
    measure = _held if one.within_slo else _flooded
    colocated, fast, slow = (measure(best_of(row, changed), changed.requests) for row in rows)
    return Ratios(colocated, fast / colocated, slow / colocated)


def _flooded(best: Best, _: int) -> float:
    return best.tokens_per_s


def _held(best: Best, requests: int) -> float:
    """Prompt and output tokens a second at the highest rate at which 90 % of the requests meet the case's SLO."""
    low, high = 0.0, MOST_PER_S
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _holds(best.case, best.plan, middle, requests) else (low, middle)
    tokens = best.case.sample(requests, 1.0, 5)
    return low * float((tokens.prompt_tokens + tokens.output_tokens).mean())


def _holds(case: Case, plan: Plan, rate_per_s: float, requests: int) -> bool:
    trace = case.sample(requests, rate_per_s, 5)
    records = Simulated(case.costs).serve(Deployment(plan, case.cluster, case.model), trace).records
    met = meets(records, case.setting.slo.limits(case.alone(trace)))
    return float(met.joint.mean()) >= ATTAINMENT


def table_of(given: argparse.Namespace, note: Callable[[str], None]) -> Table:
    """A row an assumption; ``note`` hears of each as it begins."""
    table = Table(
        "assumption", "colocated, tok/s", "split at 40 Gbit/s over it", "at 5 Gbit/s",
        title="Split over colocated serving, 4-bit KV, by assumption", title_justify="left",
    )  # fmt: skip
    for one in ASSUMPTIONS:
        note(one.title)
        found = ratios_under(one, given)
        table.add_row(
            one.title, f"{found.colocated_tokens_per_s:,.0f}", f"{found.at_40_gbit:.2f}", f"{found.at_5_gbit:.2f}"
        )
    table.add_section()
    table.add_row("the paper", "1,610", *(f"{ratio:.2f}" for ratio in PAPER))
    return table
