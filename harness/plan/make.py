"""Asking a system for a plan, and what else it can tell: how it searched, and how good any plan could be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plan.case import Case
from harness.sweep import systems
from thunderserve.policy import Problem
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster
from thunderserve.spec.plan import Plan

if TYPE_CHECKING:
    from thunderserve.scheduler.bound import Bound
    from thunderserve.scheduler.score import Score
    from thunderserve.scheduler.search import Found
    from thunderserve.scheduler.solution import Solution
    from thunderserve.scheduler.system import System
    from thunderserve.scheduler.tabu import Step

    Steps = list[Step[Solution, Score]]

LARGE, STAND_IN = 64, "cloud-32"
"""Clusters of more cards are not warmed up with, and what is in their place."""


@dataclass(frozen=True)
class Glance:
    """Where a search stands: what a display shows."""

    step: int
    scored: int
    elapsed_s: float
    best: float
    """Highest attainment so far, on the search's own sample."""
    bound: float | None
    """What no plan exceeds, where known."""
    load: float = 1.0
    """Multiple of the asked load that ``best`` is of. What bounds plans at the asked load bounds them at higher ones."""

    @property
    def words(self) -> str:
        """``step 31, 24 steps/s, 122 solutions simulated, best 98.2 % in SLO at 2.4 x the load, gap to the bound 1.8 points``."""
        pace = self.step / self.elapsed_s if self.elapsed_s > 0 else 0.0
        load = "" if self.load == 1 else f" at {self.load:.3g} x the load"
        gap = "" if self.bound is None else f", gap to the bound {max(self.bound - self.best, 0) * 100:.1f} points"
        return (
            f"step {self.step}, {pace:.0f} steps/s, {self.scored} solutions simulated, "
            f"best {self.best * 100:.1f} % in SLO{load}{gap}"
        )


Look = Callable[[Glance], None]


@dataclass(frozen=True)
class Search:
    """What the ``thunderserve`` system tells of its search."""

    system: System
    found: Found
    steps: Steps
    """Of the last search, where there were two."""
    bound: Bound


@dataclass(frozen=True)
class Made:
    """A plan, how long it took, and the search behind it where the system tells."""

    plan: Plan
    planning_s: float
    search: Search | None = None


def build(name: str, options: Mapping[str, Any], seconds: float | None, *, beside: Path | None = None) -> Any:
    """The system with its options. Raises SpecError for an unknown one, or a time limit it does not know."""
    given = dict(options)
    if seconds is not None:
        if "seconds" not in systems.options(name, beside=beside):
            raise SpecError(f"{name} has no time limit", key="--seconds", remedy="leave it out")
        given["seconds"] = seconds
    return systems.build(name, given, beside=beside)


def make(case: Case, system: Any, look: Look, *, seed: int = 0) -> Made:
    """Ask ``system``. Raises SpecError, in its words, when it has no plan."""
    try:
        if hasattr(system, "search"):
            return _searched(case, system, look, seed)
        start = time.perf_counter()
        plan: Plan = system.plan(case.problem(seed))
        plan.check(case.cluster, case.model)
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(f"there is no such plan: {error}") from None
    return Made(plan, time.perf_counter() - start)


def _searched(case: Case, system: System, look: Look, seed: int) -> Made:
    from thunderserve.scheduler.bound import upper_bound

    problem = case.problem(seed)
    bound = upper_bound(system.lower(problem))
    warm_up(system, problem)
    steps: list[tuple[float, Step[Solution, Score]]] = []

    def watch(step: Step[Solution, Score], load: float) -> None:
        steps.append((load, step))
        progress = step.progress
        best = progress.best.attainment
        look(Glance(progress.step, progress.scored, progress.elapsed_s, best, bound.attainment, load))

    start = time.perf_counter()
    plan, found = system.search(problem, watch)
    took_s = time.perf_counter() - start
    told = [step for load, step in steps if found.parts > 1 or load == found.loads[-1]]
    return Made(plan, took_s, Search(system, found, told, bound))


def warm_up(system: System, problem: Problem) -> None:
    """Load (or compile, the first time on a machine) what a search runs, so that its seconds are spent on searching.

    That is the same code for any cluster, so a small one stands in for a large one where it can serve the model.
    """
    brief = replace(system, steps=1, requests=16, judged_requests=16, finalists=1, seconds=None)
    if len(problem.cluster.devices) > LARGE:
        with suppress(ValueError):  # its cards do not hold the model, or the costs know nothing of them
            brief.search(replace(problem, cluster=load_cluster(STAND_IN), rate_per_s=1.0))
            return
    brief.search(problem)
