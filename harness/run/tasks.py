"""The units of work an executor is given: make a plan, serve a cell, judge a served cell again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.run import cell
from harness.run.planning import planned
from harness.run.world import World
from harness.store.layout import Store
from harness.sweep.cells import Job


class Task(Protocol):
    """Something to do for a cell; it is sent to a worker process, and leaves its result on disk."""

    @property
    def job(self) -> Job:
        """The cell it is for."""

    @property
    def verb(self) -> str:
        """What it does, for progress and logs."""

    def run(self, world: World, store: Store) -> None:
        """Do it."""


@dataclass(frozen=True)
class MakePlan:
    """Make the plan that this cell shares with its other seeds."""

    job: Job
    verb: str = "plan"

    def run(self, world: World, store: Store) -> None:
        """Leaves ``plans/<key>.json``."""
        planned(self.job, world, store, self.job.schedule.planned_rate_per_s)


@dataclass(frozen=True)
class ServeCell:
    """Serve a cell and store it."""

    job: Job
    verb: str = "serve"

    def run(self, world: World, store: Store) -> None:
        """Leaves ``cells/<id>/``."""
        cell.run(self.job, world, store)


@dataclass(frozen=True)
class JudgeAgain:
    """Compute a summary anew from saved requests."""

    job: Job
    verb: str = "judge"

    def run(self, world: World, store: Store) -> None:
        """Replaces ``cells/<id>/summary.json``."""
        cell.judge_again(self.job, world, store)
