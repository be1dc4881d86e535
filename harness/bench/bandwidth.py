"""``harness bench bandwidth``: the paper's eight-GPU test of phase splitting, link speed and KV compression, simulated.

Four A40 and four 3090Ti, LLaMA-30B, coding requests, 40 or 5 Gbit/s between the nodes. The paper's figures are quoted at
second hand (its text was not available): which hardware, workload and baseline stand behind the 16-bit row is inferred from
the arithmetic. No constant of ours was fitted to them; the paper's GPU table is used, and its 14 and 18 ms of codec overhead.
Throughput is prompt and output tokens a second with every request at the door.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.plan.case import Case, open_case
from harness.plan.file import Setting
from harness.sweep import systems
from thunderserve.backend import Deployment
from thunderserve.simulator.backend import Simulated
from thunderserve.spec.plan import Plan

FLOOD_PER_S = 50.0
"""Requests a second: far more than eight cards can serve."""


COLOCATED = 1610
"""The paper's "non-disaggregated" serving; how it batched is not known, so both kinds of ours are held against it."""


class Row(NamedTuple):
    """One way to serve, and what the paper has for it."""

    title: str
    gbit_per_s: int
    system: str
    options: dict[str, object]
    paper_tokens_per_s: float | None = None


ROWS = (
    Row("colocated", 40, "thunderserve", {"phase_split": "off"}, COLOCATED),
    Row("colocated, whole prompts first", 40, "vllm", {"scheduler": "prefill_first"}),
    Row("colocated, planned by HexGen", 40, "hexgen", {}),
    Row("split, 16 bit", 40, "thunderserve", {"codec": "16bit"}, 2450),
    Row("split, 4 bit", 40, "thunderserve", {}, 3292),
    Row("split, 16 bit", 5, "thunderserve", {"codec": "16bit"}),
    Row("split, 4 bit", 5, "thunderserve", {}, 2196),
    Row("split where it pays", 5, "thunderserve", {"phase_split": "auto"}),
)
RATIOS = (
    ("4 bit over 16 bit, 40 Gbit/s", 4, 3),
    ("5 over 40 Gbit/s, 4 bit", 6, 4),
    ("split at 40 Gbit/s over colocated", 4, 0),
    ("split at 5 Gbit/s over colocated", 6, 0),
    ("split at 40 Gbit/s over whole prompts first", 4, 1),
)


class Best(NamedTuple):
    """The plan of a row that serves most, over the rates it was asked to plan for."""

    tokens_per_s: float
    plan: Plan
    case: Case


def main(arguments: list[str]) -> int:
    """Plan every row at several rates, flood the plans, and print the best of each beside the paper."""
    parser = argparse.ArgumentParser(prog="harness bench bandwidth", description=__doc__)
    parser.add_argument("--catalogue", default="paper", choices=("paper", "datasheet"))
    parser.add_argument("--workload", default="azure-code")
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0, 4.0, 8.0], help="requests/s to plan for")
    parser.add_argument("--assumptions", action="store_true", help="what the ratios to colocated serving hang on")
    given = parser.parse_args(arguments)
    console = Console()
    if given.assumptions:
        from harness.bench._bandwidth_assumptions import table_of

        with console.status("planning") as status:
            table = table_of(given, status.update)
        console.print(table)
        return 0
    with console.status("planning") as status:
        found = []
        for row in ROWS:
            status.update(f"{row.title}, {row.gbit_per_s} Gbit/s")
            found.append(best_of(row, given))
    console.print(throughputs(found), ratios(found))
    return 0


def best_of(row: Row, given: argparse.Namespace) -> Best:
    """The most that ``row`` serves. Raises ValueError when no rate gave a plan."""
    tried = []
    for rate in given.rates:
        setting = Setting(
            cluster=f"cloud-8-a40-3090ti-{row.gbit_per_s}gbit",
            catalogue=given.catalogue,
            model="llama-30b",
            workload=given.workload,
            rate_per_s=rate,
        )
        case = open_case(setting, Path("bench"))
        plan = systems.build(row.system, row.options).plan(case.problem())
        tried.append(Best(flooded(case, plan, given.requests), plan, case))
    return max(tried, key=lambda best: best.tokens_per_s)


def flooded(case: Case, plan: Plan, requests: int) -> float:
    """Prompt and output tokens a second, from the first arrival to the last token, when everybody comes at once."""
    trace = case.sample(requests, FLOOD_PER_S, 5)
    records = Simulated(case.costs).serve(Deployment(plan, case.cluster, case.model), trace).records
    if not records.finished.all():
        raise ValueError("a flooded plan lost requests")
    return float((trace.prompt_tokens + trace.output_tokens).sum() / np.max(records.finish_s))


def throughputs(found: list[Best]) -> Table:
    """Every row with its plan."""
    table = Table("", "Gbit/s", "plan", "tok/s", "paper", title="Eight GPUs, simulated", title_justify="left")
    for row, best in zip(ROWS, found, strict=True):
        paper = f"{row.paper_tokens_per_s:,.0f}" if row.paper_tokens_per_s else ""
        table.add_row(row.title, str(row.gbit_per_s), shape(best), f"{best.tokens_per_s:,.0f}", paper)
    return table


def ratios(found: list[Best]) -> Table:
    """What does not depend on how fast a card is."""
    table = Table("ratio", "simulated", "paper", "apart", title_justify="left")
    for title, over, under in RATIOS:
        ours = found[over].tokens_per_s / found[under].tokens_per_s
        theirs = (ROWS[over].paper_tokens_per_s or np.nan) / (ROWS[under].paper_tokens_per_s or COLOCATED)
        table.add_row(title, f"{ours:.2f}", f"{theirs:.2f}", f"{(ours / theirs - 1) * 100:+.0f} %")
    return table


def shape(best: Best) -> str:
    """``2 x prefill, 2 a40, TP=2, PP=1``: a line for each kind of replica."""
    kinds: Counter[str] = Counter()
    for replica in best.plan.replicas:
        names = Counter(best.case.cluster.devices[device].gpu for device in replica.devices)
        cards = " + ".join(f"{count} {name}" for name, count in names.items())
        kinds[f"{replica.phase}, {cards}, {replica.describe()}"] += 1
    return "\n".join(f"{count} x {kind}" for kind, count in kinds.items())
