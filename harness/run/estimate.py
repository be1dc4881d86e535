"""What a run would do: cells, requests, time, and what the clusters cost an hour."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from harness.run import sweep
from harness.run.drive import Prepared, usual_workers
from harness.run.expected import CELL_S, expected_s
from harness.run.progress import duration
from harness.run.world import World
from harness.store import atomic
from harness.store.layout import Store

PLAN_S = 3.0
"""Assumed for a plan while none of the sweep has been timed; planners that simulate take seconds."""
PROBES = 14
"""Rates a capacity search tries, about: up to ten doublings and six halvings."""


def outlook(ready: Prepared, workers: int | None) -> dict[str, Any]:
    """The figures of a dry run, as ``--json`` gives them."""
    world = World(ready.resolved)
    work = sweep.triage(ready.jobs, world, ready.store)
    probes = PROBES if ready.resolved.sweep.search else 1
    keys = {job.plan_key(job.schedule.planned_rate_per_s) for job in work.serve}
    plans = len({key for key in keys if not (ready.store.plans / f"{key}.json").is_file()}) * probes
    used = min(workers or usual_workers(work.serve), max(len(work.serve), 1))
    plan_s, cell_s, measured = _timings(ready.store)
    requests = sum(job.schedule.requests for job in work.serve) * probes
    serving_s = len(work.serve) * cell_s if measured else probes * sum(expected_s(job) for job in work.serve)
    return {
        "name": ready.resolved.sweep.name,
        "results": str(ready.store.folder),
        "cells": len(ready.jobs),
        "done": len(work.done),
        "to_serve": len(work.serve),
        "to_judge": len(work.judge),
        "failed_before": len(work.failed),
        "plans_to_make": plans,
        "requests_to_serve": requests,
        "capacity_search": ready.resolved.sweep.search is not None,
        "workers": used,
        "seconds": (plans * plan_s + serving_s) / used,
        "seconds_from": "cells of this folder" if measured else "assumed speeds",
        "clusters": [
            {
                "name": name,
                "catalogue": catalogue,
                "gpus": dict(Counter(device.gpu for device in cluster.devices)),
                "usd_per_hour": cluster.price_per_hour,
            }
            for (name, catalogue), cluster in ready.resolved.clusters.items()
        ],
        "axes": {
            name: sorted({str(getattr(job.cell.axes, name)) for job in ready.jobs})
            for name in ("system", "backend", "cluster", "catalogue", "model", "workload", "rate_per_s", "seed")
        },
    }


def _timings(store: Store) -> tuple[float, float, bool]:
    """Seconds of a plan and of a cell: as seen in this folder, or assumed."""
    plans = _read(store, "plans/*.run.json", "planning_s")
    cells = _read(store, "cells/*/run.json", "wall_s")
    return (median(plans) if plans else PLAN_S), (median(cells) if cells else CELL_S), bool(cells)


def _read(store: Store, pattern: str, name: str) -> list[float]:
    found = []
    for path in store.folder.glob(pattern):
        try:
            found.append(float(atomic.read_json(path)[name]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def lines(outlook: dict[str, Any]) -> list[str]:
    """The same for people."""
    probes = f", about {PROBES} rates each" if outlook["capacity_search"] else ""
    text = [
        f"{outlook['name']} -> {outlook['results']}",
        f"  cells     {outlook['cells']}: {outlook['done']} done, {outlook['to_serve']} to serve{probes}, "
        f"{outlook['to_judge']} to judge again, {outlook['failed_before']} failed before",
        f"  plans     {outlook['plans_to_make']} to make",
        f"  requests  {outlook['requests_to_serve']:,} to serve",
        f"  time      about {duration(outlook['seconds'])} with {outlook['workers']} workers ({outlook['seconds_from']})",
    ]
    for cluster in outlook["clusters"]:
        cards = " + ".join(f"{count} x {gpu}" for gpu, count in cluster["gpus"].items())
        text.append(
            f"  cluster   {cluster['name']} ({cluster['catalogue']}): {cards}, {cluster['usd_per_hour']:.2f} USD/h"
        )
    return text + [f"  {name:9} {', '.join(values)}" for name, values in outlook["axes"].items()]
