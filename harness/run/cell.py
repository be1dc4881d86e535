"""One cell from start to end: serve, judge, store. What is on disk afterwards is all there is of it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from harness.result import Axes, Facts
from harness.run import capacity, judge
from harness.run.serve import serve
from harness.run.world import World
from harness.store import atomic, requests
from harness.store.layout import Store
from harness.sweep.cells import Job
from harness.sweep.schedule import HASHED
from thunderserve.serving.records import Records
from thunderserve.spec.slo import Latencies, Slo


@dataclass(frozen=True)
class Clock:
    """Wall and CPU time since it was made."""

    wall_s: float
    cpu_s: float

    @classmethod
    def start(cls) -> Clock:
        """Now."""
        return cls(time.perf_counter(), time.process_time())

    def read(self) -> dict[str, float]:
        """Seconds passed, as ``run.json`` has them."""
        return {"wall_s": time.perf_counter() - self.wall_s, "cpu_s": time.process_time() - self.cpu_s}


class Saved(NamedTuple):
    """What a summary is computed from; all of it is on disk."""

    records: Records
    alone: Latencies
    axes: Axes
    facts: Facts
    probes: dict[str, Any] | None


def slos_of(job: Job, world: World) -> list[Slo]:
    """The SLOs a cell is judged at."""
    return [job.cell.slo] if job.cell.slo is not None else world.resolved.sweep.slo.all()


def judging(job: Job, world: World) -> str:
    """What an up-to-date summary of the cell was computed with."""
    return judge.version(slos_of(job, world), world.resolved.sweep.metrics)


def run(job: Job, world: World, store: Store) -> None:
    """Serve a cell, judge it, and store it as a folder that appears whole."""
    clock = Clock.start()
    axes, probes = job.cell.axes, None
    if job.cell.search is None:
        outcome = serve(job, world, store)
    else:
        bracket, outcome = capacity.search(job, world, store)
        axes, probes = replace(axes, rate_per_s=bracket.low_per_s), capacity.stored(bracket)
    saved = Saved(outcome.records, outcome.alone, axes, outcome.facts, probes)
    with atomic.folder(store.cell(job.id)) as draft:
        requests.write(draft, saved.records, saved.alone)
        atomic.draft_json(draft / "plan.json", outcome.plan.model_dump(mode="json"))
        if probes is not None:
            atomic.draft_json(draft / "probes.json", probes)
        files = {item.name: atomic.file_digest(item) for item in sorted(draft.iterdir())}
        atomic.draft_json(draft / "cell.json", _record(job, saved, files))
        atomic.draft_json(draft / "summary.json", _summary(job, world, saved))
        atomic.draft_json(draft / "run.json", clock.read() | {"planning_s": outcome.planning_s} | _here())


def judge_again(job: Job, world: World, store: Store) -> None:
    """Compute the summary of a served cell anew from its saved requests: other SLOs, other metrics, or new code for them."""
    atomic.write_json(store.cell(job.id) / "summary.json", summary_of(job, world, store))


def summary_of(job: Job, world: World, store: Store) -> dict[str, Any]:
    """The summary that follows from the saved requests of a cell."""
    folder = store.cell(job.id)
    record = atomic.read_json(folder / "cell.json")
    records, alone = requests.read(folder)
    probes = atomic.read_json(folder / "probes.json") if job.cell.search is not None else None
    return _summary(job, world, Saved(records, alone, Axes(**record["axes"]), Facts(**record["facts"]), probes))


def _summary(job: Job, world: World, saved: Saved) -> dict[str, Any]:
    names = world.resolved.sweep.metrics
    content = judge.summary(saved.records, saved.alone, saved.axes, saved.facts, slos_of(job, world), names)
    if job.cell.search is not None and saved.probes is not None:
        for judged in content["judged"]:
            capacity.add_to(judged, saved.probes, job.cell.search)
    return content


def _record(job: Job, saved: Saved, files: dict[str, str]) -> dict[str, Any]:
    """The content of ``cell.json``: what the cell is, and the digests of what it holds."""
    cell = job.cell
    return {
        "id": job.id,
        "axes": asdict(saved.axes),
        "facts": asdict(saved.facts),
        "decided_by": job.common,
        "search": cell.search.model_dump(mode="json") if cell.search else None,
        "slo": cell.slo.model_dump(mode="json") if cell.slo else None,
        "schedule": saved.facts.workload_hash[:HASHED],
        "files": files,
    }


def _here() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
