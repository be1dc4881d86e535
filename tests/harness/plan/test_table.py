"""The plan as a table: a golden print, and what is counted."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.plan.bottleneck import bottleneck
from harness.plan.judge import Verdict
from harness.plan.table import Row, idle_cards, price_of, print_plan, rows
from thunderserve.spec.plan import Plan

GOLDEN = """\
by hand · llama-13b · cloud-8-a40-3090ti-40gbit · datasheet catalogue

 GPUs      strategy    layers  type     n  pre %  dec %  busy  KV
 ────────────────────────────────────────────────────────────────
 2xA40     TP=2, PP=1  40      prefill  1     60      0
 2xA40     TP=1, PP=2  15+25   prefill  1     40      0
 2x3090Ti  TP=2, PP=1  40      decode   1      0     50
 2x3090Ti  TP=1, PP=2  20+20   decode   1      0     50
"""


def printed(verdict: Verdict) -> str:
    stream = io.StringIO()
    print_plan(Console(file=stream, width=100), verdict.case, None, verdict, bottleneck(verdict))
    return stream.getvalue()


def test_the_table_of_deployments(verdict: Verdict) -> None:
    lines = [line.rstrip() for line in printed(verdict).splitlines()]
    assert len(lines) > len(GOLDEN.splitlines())
    for wanted, line in zip(GOLDEN.splitlines(), lines, strict=False):
        assert line.startswith(wanted)  # the last two columns are loads
    text = " ".join(printed(verdict).split())
    assert "fixed-512-128 at 6 req/s, SLO x5" in text
    assert "Price: 2.840 USD/h of cards in use, 2.840 USD/h for the cluster." in text
    assert "Busiest link: a40 to 3090ti" in text
    assert "Bottleneck: 90% are within the SLO up to" in text


def test_equal_replicas_are_one_row_and_idle_cards_are_told(verdict: Verdict, plan: Plan) -> None:
    first = plan.replicas[0]
    other = first.model_copy(update={"stages": (first.stages[0].model_copy(update={"devices": (2, 3)}),)})
    alike = plan.model_copy(update={"replicas": (first, other, *plan.replicas[2:3])})
    cluster = verdict.case.cluster
    assert rows(alike, cluster) == [
        Row("2xA40", "TP=2, PP=1", "40", "prefill", (0, 1)),
        Row("2x3090Ti", "TP=2, PP=1", "40", "decode", (2,)),
    ]
    assert idle_cards(alike, cluster) == "2x3090Ti"
    used, whole = price_of(alike, cluster)
    assert whole - used == pytest.approx(2 * cluster.gpu(7).price_per_hour)
