"""``harness bench bandwidth``: the paper's eight-GPU test of phase splitting, link speed and KV compression, simulated.

Four A40 and four 3090Ti, LLaMA-30B, coding requests, 40 or 5 Gbit/s between the nodes. The paper's figures are quoted at
second hand (its text was not available): which hardware, workload and baseline stand behind the 16-bit row is inferred from
the arithmetic. No constant of ours was fitted to them; the paper's GPU table is used, and its 14 and 18 ms of codec overhead.
Throughput is prompt and output tokens a second with every request at the door. ``--assumptions`` instead shows how the gain of
splitting depends on what its text leaves open: how the baseline batches, who planned it, how both were measured.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.bench import _bandwidth_assumptions as assumptions
from harness.bench._bandwidth_runs import Best, best_of, cases

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


def main(arguments: list[str]) -> int:
    """Plan every row at several rates, flood the plans, and print the best of each beside the paper."""
    parser = argparse.ArgumentParser(prog="harness bench bandwidth", description=__doc__)
    parser.add_argument("--catalogue", default="paper", choices=("paper", "datasheet"))
    parser.add_argument("--workload", default="azure-code")
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0, 4.0, 8.0], help="requests/s to plan for")
    parser.add_argument("--assumptions", action="store_true", help="what the gain of splitting depends on")
    given = parser.parse_args(arguments)
    console = Console()
    if given.assumptions:
        return _assumptions(given, console)
    with console.status("planning") as status:
        found = []
        for row in ROWS:
            status.update(f"{row.title}, {row.gbit_per_s} Gbit/s")
            asked = cases(row.gbit_per_s, given.catalogue, given.workload, given.rates)
            found.append(best_of(row.system, row.options, asked, given.requests))
    console.print(throughputs(found), ratios(found))
    return 0


def _assumptions(given: argparse.Namespace, console: Console) -> int:
    """Each surrounding names its own catalogue and workload, so those options are not asked."""
    with console.status("planning and flooding"):
        rows = [*assumptions.rows(given.rates, given.requests), *assumptions.in_time(given.rates, given.requests)]
    console.print(assumptions.table(rows))
    return 0


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
