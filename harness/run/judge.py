"""Holding saved records against every SLO of a sweep: the summary of a cell, without serving again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from harness import metrics
from harness.result import Axes, Facts
from harness.store import requests
from harness.sweep.cells import label
from harness.sweep.digest import JUDGING, code_version, digest
from thunderserve.serving.records import Records, Status
from thunderserve.spec.slo import Latencies, Slo


def version(slos: Sequence[Slo], names: Sequence[str]) -> str:
    """Hash of what a summary is computed with: the SLOs, the metrics, and their code."""
    return digest([[slo.model_dump(mode="json") for slo in slos], list(names), code_version(JUDGING)])


def summary(
    records: Records, alone: Latencies, axes: Axes, facts: Facts, slos: Sequence[Slo], names: Sequence[str]
) -> dict[str, Any]:
    """The content of ``summary.json``: the same bytes for the same records, SLOs and metrics."""
    return {
        "judging": version(slos, names),
        "facts": asdict(facts),
        "judged": [_judged(records, alone, axes, facts, slo, names) for slo in slos],
        "warnings": warnings(records, axes),
    }


def _judged(
    records: Records, alone: Latencies, axes: Axes, facts: Facts, slo: Slo, names: Sequence[str]
) -> dict[str, Any]:
    measured = metrics.compute(requests.view(records, alone, slo, axes, facts), names)
    return {
        "slo": slo.model_dump(mode="json"),
        "label": label(slo),
        "metrics": measured.metrics,
        "intervals": {name: list(interval) for name, interval in measured.intervals.items()},
        "flags": measured.flags,
    }


def warnings(records: Records, axes: Axes) -> list[str]:
    """What a reader of the results must know about the requests themselves."""
    found = []
    for status, words in ((Status.REJECTED, "rejected"), (Status.FAILED, "not served to the end")):
        count = int(np.equal(records.status, status).sum())
        if count:
            found.append(f"{axes.system}, {axes.workload}: {count} of {len(records)} requests were {words}")
    return found
