"""``harness run``, from a sweep file to a folder of results: the wiring."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.result import SweepResult
from harness.run import finish, sweep
from harness.run.executor import Executor, Inline
from harness.run.observe import Observers
from harness.run.progress import Progress, Tally
from harness.run.world import World
from harness.store import atomic, manifest
from harness.store.layout import Store
from harness.sweep import backends
from harness.sweep.cells import Job
from harness.sweep.digest import ROOT
from harness.sweep.resolve import Resolved, resolve
from harness.sweep.schedule import Schedules
from harness.sweep.source import Source


@dataclass(frozen=True)
class Options:
    """How a run is made, as the command line says it."""

    results: Path | None = None
    """The results folder; ``results/<name of the sweep>`` by default."""
    workers: int | None = None
    """Processes; by default one for each core, and no more than there are cells. 1 runs in this process."""
    retry_failed: bool = False
    pictures: bool = True
    """Whether figures and the report are made, and W&B is told."""
    ray: str | None = None
    """Address of a Ray cluster to work on, instead of processes of this machine."""


@dataclass
class Run:
    """What a run came to."""

    store: Store
    resolved: Resolved
    tally: Tally
    finish: finish.Finish | None = None
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """A sweep, checked and laid out in cells; nothing has been written yet."""

    source: Source
    resolved: Resolved
    jobs: list[Job]
    schedules: Schedules
    store: Store


def prepare(source: Source, results: Path | None = None) -> Prepared:
    """Check a sweep whole and make its schedules. Raises SpecError."""
    resolved = resolve(source)
    jobs, schedules = sweep.prepared(resolved)
    return Prepared(source, resolved, jobs, schedules, Store(results or Path("results") / resolved.sweep.name))


def drive(ready: Prepared, options: Options, progress: Progress) -> Run:
    """Run what is left of a sweep and finish the folder. Raises ``atomic.BusyError`` while another run writes there."""
    started, clock = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.perf_counter()
    with atomic.lock(ready.store.folder):
        ready.store.sweep_up()
        sweep.lay_out(ready.source, ready.resolved, ready.jobs, ready.schedules, ready.store)
        observers = Observers(ready.store, ready.resolved, manifest.code(ROOT)["commit"])
        run = _serve(ready, options, progress, observers)
        notes = {"argv": manifest.argv(), "started_at": started, "wall_s": time.perf_counter() - clock, **_cpu()}
        counts = {name: getattr(run.tally, name) for name in ("done", "found", "failed")}
        _finish(ready, run, notes | counts | {"interrupted": run.interrupted}, options, observers)
    return run


def _serve(ready: Prepared, options: Options, progress: Progress, observers: Observers) -> Run:
    """Run the tasks; Ctrl-C stops the workers and leaves what is done."""
    world = World(ready.resolved)
    work = sweep.triage(ready.jobs, world, ready.store, retry_failed=options.retry_failed)
    with ExitStack() as stack:
        stack.callback(progress.close)
        executor = _executor(ready, work, world, options)
        stack.callback(executor.close)
        runner = sweep.Runner(work, ready.store, executor, progress, watch=observers.cell)
        run = Run(ready.store, ready.resolved, runner.tally)
        try:
            if options.pictures:
                observers.begin()
            runner.run()
        except KeyboardInterrupt:
            run.interrupted = True
            progress.say("interrupted: what is finished is kept; run again to go on")
        return run


def usual_workers(jobs: Iterable[Job]) -> int:
    """One a core; but one in all where a real engine is measured: two at once would measure each other."""
    return 1 if any(backends.in_real_time(job.cell.backend.name) for job in jobs) else manifest.usable_cores()


def _executor(ready: Prepared, work: sweep.Work, world: World, options: Options) -> Executor:
    if options.ray is not None:
        from harness.run.on_ray import OnRay

        return OnRay(ready.resolved, ready.store, options.ray, options.workers)
    left = len(work.serve) + len(work.judge)
    workers = min(options.workers or usual_workers(work.serve), max(left, 1))
    if workers == 1:
        return Inline(world, ready.store)
    from harness.run.local import Processes

    return Processes(ready.resolved, ready.store, workers)


def _cpu() -> dict[str, float]:
    """CPU seconds of this process and of the workers that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"cpu_s": sum(use.ru_utime + use.ru_stime for use in spent)}


def _finish(ready: Prepared, run: Run, notes: dict[str, Any], options: Options, observers: Observers) -> None:
    """Manifest first, for it stands in the report; again at the end, when observers had something to warn of."""
    store = ready.store
    content = finish.manifest_of(store, ready.resolved, ready.jobs, notes)
    atomic.write_json(store.manifest, content)
    if not run.interrupted:
        run.finish = finish.tables(store)
        run.warnings = _dropped(run.finish.result) + _cell_warnings(run.finish.result)
        run.finish.result = replace(run.finish.result, manifest=content | {"warnings": run.warnings})
        if options.pictures and run.finish.result.cells:
            observers.end(run.finish)
    observers.close()
    run.warnings += list(dict.fromkeys(observers.warned))
    atomic.write_json(store.manifest, content | {"warnings": run.warnings})


def _dropped(result: SweepResult) -> list[str]:
    """What filters took out, by workload and reason, as a share of all that was drawn for its schedules."""
    schedules = {cell.facts.workload_hash: cell for cell in result.cells}
    drawn: Counter[str] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    for cell in schedules.values():
        drawn[cell.axes.workload] += cell.axes.requests + sum(cell.facts.dropped.values())
        lost.update({(cell.axes.workload, reason): count for reason, count in cell.facts.dropped.items()})
    return [
        f"{workload}: {count / drawn[workload]:.1%} of the requests drawn did not fit and were left out ({reason})"
        for (workload, reason), count in lost.items()
        if count
    ]


def _cell_warnings(result: SweepResult) -> list[str]:
    """What the cells warn of, each once, with how many say so."""
    counts = Counter(words for cell in result.cells for words in cell.warnings)
    return [f"{words} ({count} cells)" for words, count in counts.items()]
