"""Serving one cell: its schedule, its plan, and the records that come back."""

from __future__ import annotations

from dataclasses import dataclass

from harness.result import Facts
from harness.run.planning import Planned, describe, planned, same_code
from harness.run.world import World
from harness.store.layout import Store
from harness.sweep import schedule
from harness.sweep.cells import Cell, Job
from thunderserve.backend import Deployment
from thunderserve.serving.records import Records
from thunderserve.spec.plan import Plan
from thunderserve.spec.slo import Latencies
from thunderserve.spec.trace import Trace


@dataclass(frozen=True)
class Outcome:
    """What a backend made of a trace under a plan."""

    records: Records
    alone: Latencies
    plan: Plan
    planning_s: float
    facts: Facts


def serve(job: Job, world: World, store: Store) -> Outcome:
    """Serve a cell at its rate."""
    same_code(job)
    trace = schedule.load(store.schedules, job.schedule)
    return carry_out(job.cell, world, trace, planned(job, world, store, job.schedule.planned_rate_per_s))


def carry_out(cell: Cell, world: World, trace: Trace, made: Planned) -> Outcome:
    """Replay ``trace`` under a plan. Raises ValueError when the backend loses, invents or reorders requests."""
    cluster, model = world.cluster(cell), world.model(cell)
    served = world.backend(cell).serve(Deployment(made.plan, cluster, model), trace)
    records = served.records
    if len(records) != len(trace) or (records.arrival_s != trace.arrival_s).any():
        raise ValueError(f"the backend returned {len(records)} records that are not those of the {len(trace)} requests")
    facts = Facts(
        price_per_hour=cluster.price_per_hour,
        num_gpus=len(cluster.devices),
        num_replicas=len(made.plan.replicas),
        plan=describe(made.plan),
        workload_hash=trace.digest,
        offered_rate_per_s=trace.offered_rate_per_s,
        dropped=dict(trace.dropped),
        prompt_tokens=int(trace.prompt_tokens.sum()),
        output_tokens=int(trace.output_tokens.sum()),
        counters=dict(served.counters),
    )
    return Outcome(records, world.alone(cell)(trace), made.plan, made.planning_s, facts)
