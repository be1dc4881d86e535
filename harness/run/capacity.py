"""The highest rate that holds: a bracket grown by doubling, then halved, each probe stored with its verdict.

DistServe (OSDI 2024, section 4) and Vidur search it the same way; the verdict is MLPerf's early stopping: a share of good
requests only says *holds* or *fails* when the sample is large enough to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from harness.run.planning import planned
from harness.run.serve import Outcome, carry_out
from harness.run.world import World
from harness.statistics.binomial import Verdict, share_interval, verdict
from harness.statistics.correlation import design_effect
from harness.store.layout import Store
from harness.sweep import schedule
from harness.sweep.cells import Job
from harness.sweep.sweep import CapacitySearch
from thunderserve.serving.records import meets
from thunderserve.spec.slo import Slo
from thunderserve.spec.trace import Trace

REMEMBERED = 1_000_000
"""Requests of probes that are kept in memory; the oldest go first."""


@dataclass(frozen=True)
class Probe:
    """One rate that was tried."""

    rate_per_s: float
    attained: float
    """Share of requests that met the SLO, all limits together."""
    interval: tuple[float, float]
    good: int
    trials: int
    verdict: Verdict
    workload_hash: str
    plan_key: str


@dataclass(frozen=True)
class Bracket:
    """What a search found."""

    low_per_s: float
    """The highest rate seen to hold; 0 when none did."""
    high_per_s: float | None
    """The lowest rate above it seen to fail; None when even the highest rate allowed holds."""
    verdict: str
    probes: tuple[Probe, ...]
    """In the order they were made."""


def rates(search: CapacitySearch, holds: Callable[[float], bool]) -> tuple[float, float | None]:
    """Bisect for the highest rate at which ``holds`` is true, taking it to be monotone: the bracket (low, high)."""
    rate = search.start_per_s
    if holds(rate):
        low, high = _grow(search, holds, rate)
        if high is None:
            return low, None
    else:
        low, high = _shrink(search, holds, rate)
    while low > 0 and high - low > search.tolerance * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high


def _grow(search: CapacitySearch, holds: Callable[[float], bool], low: float) -> tuple[float, float | None]:
    while low < search.highest_per_s:
        high = min(2 * low, search.highest_per_s)
        if not holds(high):
            return low, high
        low = high
    return low, None


def _shrink(search: CapacitySearch, holds: Callable[[float], bool], high: float) -> tuple[float, float]:
    while high > search.lowest_per_s:
        low = max(high / 2, search.lowest_per_s)
        if holds(low):
            return low, high
        high = low
    return 0.0, high


def search(job: Job, world: World, store: Store) -> tuple[Bracket, Outcome]:
    """Search the capacity of a cell: the bracket, and what was served at its lower end (at the lowest probe when none holds)."""
    how, slo = job.cell.search, job.cell.slo
    if how is None or slo is None:
        raise ValueError(f"cell {job.id} does not search for a capacity")
    made: dict[float, tuple[Probe, Outcome]] = {}

    def holds(rate_per_s: float) -> bool:
        if rate_per_s not in made:
            made[rate_per_s] = _probe(job, world, store, rate_per_s, slo, how)
        return made[rate_per_s][0].attained >= how.attainment

    low, high = rates(how, holds)
    probes = tuple(probe for probe, _ in made.values())
    kept = made[low if low > 0 else min(made)][1]
    return Bracket(low, high, overall({probe.rate_per_s: probe for probe in probes}, low, high), probes), kept


def _probe(
    job: Job, world: World, store: Store, rate_per_s: float, slo: Slo, how: CapacitySearch
) -> tuple[Probe, Outcome]:
    cell = job.cell
    trace = world.source(cell).trace(cell.requests, rate_per_s, cell.seed, max_context=world.max_context(cell))
    schedule.store(store.schedules, trace)
    outcome = _served(job, world, store, trace, rate_per_s)
    good = meets(outcome.records, slo.limits(outcome.alone)).joint
    successes, trials, effect = int(good.sum()), len(good), design_effect(good)
    probe = Probe(
        rate_per_s=rate_per_s,
        attained=successes / trials,
        interval=share_interval(successes, trials, confidence=how.confidence, effect=effect),
        good=successes,
        trials=trials,
        verdict=verdict(successes, trials, how.attainment, how.confidence, effect),
        workload_hash=trace.digest,
        plan_key=job.plan_key(rate_per_s),
    )
    return probe, outcome


def _served(job: Job, world: World, store: Store, trace: Trace, rate_per_s: float) -> Outcome:
    """What the plan for a rate made of ``trace``; served once where several SLOs are searched with the same plans."""
    key = (job.plan_key(rate_per_s), trace.digest)
    if key not in world.probes:
        while world.probes and sum(len(known.records) for known in world.probes.values()) + len(trace) > REMEMBERED:
            del world.probes[next(iter(world.probes))]
        world.probes[key] = carry_out(job.cell, world, trace, planned(job, world, store, rate_per_s))
    return world.probes[key]


def overall(probes: dict[float, Probe], low: float, high: float | None) -> str:
    """In words: whether the bracket's ends are what they seem, at this sample size."""
    parts = list(_ends(probes, low, high))
    decided = all(seen == wanted for _, seen, wanted in parts)
    size = next(iter(probes.values())).trials
    words = "; ".join(f"{text}: {seen}" for text, seen, _ in parts)
    return f"{'holds' if decided and low > 0 else 'fails' if decided else 'undetermined'} at {size} requests ({words})"


def _ends(probes: dict[float, Probe], low: float, high: float | None) -> Iterator[tuple[str, Verdict, Verdict]]:
    if low > 0:
        yield f"{low:.4g}/s attains {probes[low].attained:.1%}", probes[low].verdict, "holds"
    if high is not None:
        yield f"{high:.4g}/s attains {probes[high].attained:.1%}", probes[high].verdict, "fails"


def metric(search: CapacitySearch) -> str:
    """``capacity@90``: the name of the column."""
    return f"capacity@{search.attainment * 100:g}"


def add_to(judged: dict[str, Any], probes: dict[str, Any], search: CapacitySearch) -> None:
    """Put the capacity of ``probes`` (as ``stored``), its bracket and its verdict among the metrics of a summary."""
    name, low, high = metric(search), probes["low_per_s"], probes["high_per_s"]
    judged["metrics"][name] = low
    if high is not None:
        judged["intervals"][name] = [low, high]
    judged["flags"][name] = probes["verdict"] if high is not None else f"at least; {probes['verdict']}"


def stored(bracket: Bracket) -> dict[str, Any]:
    """The content of ``probes.json``."""
    return asdict(bracket)
