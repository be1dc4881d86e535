"""A whole sweep: what is left to do, who does it, and what is kept of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.run import cell as cells
from harness.run.executor import Executor, Outcome
from harness.run.expected import expected_s
from harness.run.progress import Progress, Tally
from harness.run.tasks import JudgeAgain, MakePlan, ServeCell, Task
from harness.run.world import World
from harness.store import atomic
from harness.store.layout import Store
from harness.sweep import schedule
from harness.sweep.cells import SCHEMA, Job, identify
from harness.sweep.resolve import Resolved
from harness.sweep.schedule import Schedules
from harness.sweep.source import Source

Watcher = Callable[[Job], None]
"""Told of every cell that this run has finished, once it is on disk."""


@dataclass
class Work:
    """The cells of a sweep by what they need."""

    jobs: list[Job]
    done: list[Job] = field(default_factory=list)
    serve: list[Job] = field(default_factory=list)
    judge: list[Job] = field(default_factory=list)
    """Served, but not judged at these SLOs, by these metrics, with this code."""
    failed: list[Job] = field(default_factory=list)
    """Failed in an earlier run, and not to be retried."""


def schedules_of(resolved: Resolved) -> Schedules:
    """The maker of schedules of a sweep."""
    sweep = resolved.sweep
    return Schedules(
        workloads=resolved.workloads,
        models=resolved.models,
        max_context=sweep.model_context == "drop",
        search_rate_per_s=sweep.search.start_per_s if sweep.search else None,
    )


def triage(jobs: Iterable[Job], world: World, store: Store, *, retry_failed: bool = False) -> Work:
    """Look at the results folder: what is done, and what is left."""
    work = Work(list(jobs))
    for job in work.jobs:
        if store.is_served(job.id):
            current = store.judged_with(job.id) == cells.judging(job, world)
            (work.done if current else work.judge).append(job)
        elif store.has_failed(job.id) and not retry_failed:
            work.failed.append(job)
        else:
            work.serve.append(job)
    return work


def lay_out(source: Source, resolved: Resolved, jobs: list[Job], schedules: Schedules, store: Store) -> None:
    """Write what a run starts with: the sweep as given and as resolved, and every schedule."""
    atomic.write_text(store.folder / "sweep.yaml", source.text)
    listed = [{"id": job.id, "axes": asdict(job.cell.axes), "schedule": job.schedule.name} for job in jobs]
    for entry, job in zip(listed, jobs, strict=True):
        if job.cell.slo is not None:
            entry["slo"] = job.cell.slo.model_dump(mode="json")
    content = {
        "schema": SCHEMA,
        "overrides": [words for _, words in source.overridden],
        "sweep": resolved.sweep.model_dump(mode="json"),
        "clusters": {
            f"{name}@{catalogue}": cluster.model_dump(mode="json")
            for (name, catalogue), cluster in resolved.clusters.items()
        },
        "models": {name: model.model_dump(mode="json") for name, model in resolved.models.items()},
        "reference_gpu": resolved.reference.model_dump(mode="json"),
        "cells": listed,
    }
    atomic.write_json(store.resolved, content)
    for trace in schedules.traces.values():
        schedule.store(store.schedules, trace)


@dataclass
class Runner:
    """Drives an executor through the work of a sweep."""

    work: Work
    store: Store
    executor: Executor
    progress: Progress
    watch: Watcher
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(len(self.work.jobs), found=len(self.work.done), failed=len(self.work.failed))
        self.tally.work = sum(map(expected_s, (*self.work.serve, *self.work.judge)))
        self._behind: dict[str, list[Job]] = defaultdict(list)

    def run(self) -> Tally:
        """Run all tasks. A plan comes before the cells that need it; a failure leaves the others alone."""
        self.executor.submit([*(JudgeAgain(job) for job in self.work.judge), *self._first_tasks()])
        for outcome in self.executor.outcomes():
            if outcome is not None:
                self._take(outcome)
            self.tally.running = [f"{task.verb} {task.job.cell.words}" for task in self.executor.running]
            self.progress.update(self.tally)
        self.tally.running = []
        self.progress.update(self.tally)
        return self.tally

    def _first_tasks(self) -> list[Task]:
        tasks: list[Task] = []
        for job in self.work.serve:
            key = "" if job.cell.search is not None else job.plan_key(job.schedule.planned_rate_per_s)
            if not key or (self.store.plans / f"{key}.json").is_file():
                tasks.append(ServeCell(job))
                continue
            if key not in self._behind:
                tasks.append(MakePlan(job))
                self.tally.plans += 1
            self._behind[key].append(job)
        return tasks

    def _take(self, outcome: Outcome) -> None:
        job = outcome.task.job
        if isinstance(outcome.task, MakePlan):
            self.tally.planned += 1
            waiting = self._behind.pop(job.plan_key(job.schedule.planned_rate_per_s))
            if not outcome.error:
                self.executor.submit([ServeCell(behind) for behind in waiting])
            for behind in waiting if outcome.error else ():
                self._fail(behind, outcome)
        elif outcome.error:
            self._fail(job, outcome)
        else:
            self.tally.done += 1
            self.tally.worked += expected_s(job)
            if self.store.failure(job.id).is_dir():
                atomic.discard(self.store.failure(job.id))
            self.watch(job)

    def _fail(self, job: Job, outcome: Outcome) -> None:
        self.tally.failed += 1
        self.tally.worked += expected_s(job)
        self.progress.say(f"failed: {outcome.task.verb} {job.cell.words}: {outcome.error}")
        with atomic.folder(self.store.failure(job.id)) as draft:
            atomic.draft_json(draft / "failure.json", failure(job, outcome))


def failure(job: Job, outcome: Outcome) -> dict[str, Any]:
    """The content of ``failure.json``."""
    return {
        "id": job.id,
        "axes": asdict(job.cell.axes),
        "while": outcome.task.verb,
        "error": outcome.error,
        "traceback": outcome.traceback,
        "wall_s": outcome.wall_s,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def prepared(resolved: Resolved) -> tuple[list[Job], Schedules]:
    """All cells of a sweep with their ids, and their schedules. Raises SpecError for a workload that cannot give one."""
    schedules = schedules_of(resolved)
    return identify(resolved, schedules), schedules
