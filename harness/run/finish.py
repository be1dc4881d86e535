"""After the last cell: summary and manifest, computed from what is on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.result import SweepResult
from harness.store import load, manifest, summary
from harness.store.layout import Store
from harness.sweep.cells import SCHEMA, Job
from harness.sweep.digest import JUDGING, ROOT, SERVING, code_version
from harness.sweep.resolve import Resolved
from thunderserve.spec import document
from thunderserve.spec.catalogue import find
from thunderserve.spec.gpu import GpuFile


@dataclass
class Finish:
    """What came of a run, beside the cells."""

    result: SweepResult
    rows: list[summary.Row]
    figures: list[Path] = field(default_factory=list)
    report: Path | None = None


def tables(store: Store) -> Finish:
    """Read the results back and write the summary tables."""
    result = load.sweep(store.folder)
    return Finish(result, summary.write(result))


def prices(resolved: Resolved) -> dict[str, Any]:
    """GPU -> its price, where it is from and of what day."""
    found: dict[str, Any] = {}
    for name in sorted({gpu for cluster in resolved.clusters.values() for gpu in cluster.gpus}):
        known = document.load(GpuFile, find("gpus", name, beside=resolved.folder)).prices
        order = [resolved.sweep.market] if resolved.sweep.market else ["paper", "market", "on_demand"]
        market = next((market for market in order if market in known), None)
        if market is not None:
            found[name] = {"market": market} | known[market].model_dump(mode="json")
    return found


def manifest_of(store: Store, resolved: Resolved, jobs: list[Job], run: dict[str, Any]) -> dict[str, Any]:
    """The content of ``manifest.json``; ``run`` is what this call notes about itself, beside what earlier calls did."""
    paid = prices(resolved)
    return {
        "schema": SCHEMA,
        "name": resolved.sweep.name,
        "argv": manifest.argv(),
        "sweep_folder": str(resolved.folder.resolve()),
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "code": manifest.code(ROOT) | {"serving": code_version(SERVING), "judging": code_version(JUDGING)},
        "versions": manifest.versions(),
        "machine": manifest.machine(),
        "environment": manifest.environment(),
        "seeds": list(resolved.sweep.seeds),
        "workload_hashes": _workload_hashes(jobs),
        "prices": paid,
        "price_date": max((entry["date"] for entry in paid.values()), default=None),
        "cells": manifest.cell_digests(store, [job.id for job in jobs]),
        "runs": [*manifest.earlier_runs(store), run],
        "warnings": [],
    }


def _workload_hashes(jobs: list[Job]) -> list[dict[str, Any]]:
    found = {
        (job.cell.workload, job.schedule.digest): {
            "workload": job.cell.workload,
            "rate_per_s": job.cell.rate_per_s,
            "seed": job.cell.seed,
            "requests": job.cell.requests,
            "offered_rate_per_s": job.schedule.offered_rate_per_s,
            "dropped": job.schedule.dropped,
            "sha256": job.schedule.digest,
        }
        for job in jobs
    }
    return list(found.values())
