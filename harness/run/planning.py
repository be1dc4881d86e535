"""One plan for a system, cluster, model, workload and rate: made once, stored, and shared by all seeds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from harness.run.world import World
from harness.store import atomic
from harness.store.layout import Store
from harness.sweep.cells import Job
from harness.sweep.digest import SERVING, code_version
from thunderserve.policy import Problem
from thunderserve.spec.plan import Plan
from thunderserve.spec.trace import Trace


@dataclass(frozen=True)
class Planned:
    """A plan, and the seconds it took to make, whenever that was."""

    plan: Plan
    planning_s: float


def describe(plan: Plan) -> str:
    """One line, as ``2 x TP=2, PP=1 prefill + 1 x TP=4, PP=1 decode``."""
    shapes = Counter(f"{replica.describe()} {replica.phase.value}" for replica in plan.replicas)
    return " + ".join(f"{count} x {shape}" for shape, count in shapes.items())


def planned(job: Job, world: World, store: Store, rate_per_s: float) -> Planned:
    """The stored plan of a cell at a rate, made now if there is none. Raises ValueError when the system cannot plan it."""
    path = store.plans / f"{job.plan_key(rate_per_s)}.json"
    timing = path.with_suffix(".run.json")
    if path.is_file() and timing.is_file():
        return Planned(Plan.model_validate(atomic.read_json(path)), float(atomic.read_json(timing)["planning_s"]))
    same_code(job)
    start = time.perf_counter()
    plan = world.policy(job.cell).plan(problem(job, world, rate_per_s))
    plan.check(world.cluster(job.cell), world.model(job.cell))
    seconds = time.perf_counter() - start
    atomic.write_json(timing, {"planning_s": seconds})
    atomic.write_json(path, plan.model_dump(mode="json"))
    return Planned(plan, seconds)


def same_code(job: Job) -> None:
    """Raise RuntimeError when this process has read other source files than those that the ids of cells are hashes of."""
    if job.common["code"] != code_version(SERVING):
        raise RuntimeError("the source files have changed since the run began; run it again")


def problem(job: Job, world: World, rate_per_s: float) -> Problem:
    """What the policy of a cell may know."""
    cell = job.cell

    def sample(requests: int, rate: float, seed: int) -> Trace:
        return world.source(cell).sample(requests, rate, seed, max_context=world.max_context(cell))

    return Problem(
        cluster=world.cluster(cell),
        model=world.model(cell),
        rate_per_s=rate_per_s,
        slo=cell.plan_slo,
        sample=sample,
        alone=world.alone(cell),
        costs=world.costs(),
        attainment=cell.attainment,
    )
