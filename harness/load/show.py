"""A run for people and for scripts: progress while it goes, metrics and doubts when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import typer

from harness import metrics, notation
from harness.cli import out
from harness.load.drive import Glance, Look
from harness.load.outcome import LoadResult
from harness.load.records import Summary, records_of, summary_of
from harness.metrics import Measured
from harness.result import Axes, Facts, View
from harness.run.progress import duration, one_line
from harness.statistics.value import Value
from harness.store import requests
from thunderserve.spec.slo import Latencies, Slo
from thunderserve.spec.trace import Trace

ALWAYS = ("throughput", "rates", "ttft", "tpot", "itl", "e2e", "dropped")
OF_AN_SLO = ("slo_attainment", "goodput")
LINE_EVERY_S = 2.0
MOST_ERRORS = 5


def words(glance: Glance) -> str:
    """``12.3 s: 24/100 sent, 20 ended, 1 failed, 4 in flight, 1234 tokens``."""
    return (
        f"{duration(glance.time_s)}: {glance.sent}/{glance.total} sent, {glance.ended} ended, {glance.failed} failed, "
        f"{glance.sent - glance.ended} in flight, {glance.tokens} tokens"
    )


def shown(*, quiet: bool) -> AbstractContextManager[Look]:
    """The display that suits standard error: one line written anew on a terminal, lines in a log file."""
    return one_line(words, quiet=quiet, before="warming up ...", every_s=LINE_EVERY_S)


def measured(result: LoadResult, trace: Trace, slo: Slo | None, axes: Axes, timeout_s: float) -> Measured:
    """The metrics that need neither the inside of the server nor its price; without an SLO, those that need none."""
    records = records_of(result)
    facts = Facts(
        price_per_hour=0.0,
        num_gpus=0,
        num_replicas=0,
        plan="",
        workload_hash=trace.digest,
        offered_rate_per_s=trace.offered_rate_per_s,
        dropped=trace.dropped,
        prompt_tokens=int(records.prompt_tokens.sum()),
        output_tokens=int(records.output_tokens.sum()),
    )
    alone = Latencies(*(np.full(len(records), np.nan) for _ in range(3)))  # absolute limits do not look at it
    view: View = requests.view(records, alone, slo or Slo(e2e_s=timeout_s), axes, facts)
    return metrics.compute(view, (*OF_AN_SLO, *ALWAYS) if slo else ALWAYS)


def tell(result: LoadResult, found: Measured, slo: Slo | None, title: str) -> None:
    """The metrics with their intervals, then how well the load generator did, and what is in doubt."""
    summary = summary_of(result)
    typer.echo(title)
    out.columns(_row(found, name) for name in found.metrics)
    typer.echo("load generator")
    out.columns(
        [
            ("sent, finished", f"{summary.sent}, {summary.finished}"),
            ("slip p50, p99, most", ", ".join(map(_seconds, summary[2:5]))),
            ("gap between tokens p50, p99", ", ".join(map(_seconds, summary[5:7]))),
        ]
    )
    for flag in (*_lost(summary), *summary.flags(slo.ttft_s if slo else None)):
        out.warn(flag)


def as_json(result: LoadResult, found: Measured, slo: Slo | None) -> dict[str, Any]:
    """The same for scripts."""
    summary = summary_of(result)
    numbers = {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in summary._asdict().items()
        if name != "errors"
    }
    return {
        "metrics": found.metrics,
        "intervals": found.intervals,
        "notes": found.flags,
        "load": numbers,
        "errors": dict(summary.errors),
        "flags": summary.flags(slo.ttft_s if slo else None),
        "interrupted": result.interrupted,
    }


def _lost(summary: Summary) -> Iterator[str]:
    for error, count in summary.errors[:MOST_ERRORS]:
        yield f"{count} requests: {error}"
    if len(summary.errors) > MOST_ERRORS:
        yield f"and {len(summary.errors) - MOST_ERRORS} other errors; see the records"


def _row(found: Measured, name: str) -> tuple[str, str, str, str]:
    value, interval = found.metrics[name], found.intervals.get(name)
    between = ""
    if interval is not None:
        between = notation.span(name, Value(value, interval)).removeprefix(notation.quantity(name, value)).strip()
    return name, notation.quantity(name, value), between, found.flags.get(name, "")


def _seconds(value: float) -> str:
    return "-" if np.isnan(value) else notation.seconds(value)
