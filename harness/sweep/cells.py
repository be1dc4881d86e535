"""The cells a sweep stands for, and the identity of each: a hash of all that decides its result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness.result import Axes
from harness.sweep import backends, costs, digest, systems
from harness.sweep.resolve import Resolved
from harness.sweep.schedule import Schedule, Schedules
from harness.sweep.sweep import BackendChoice, CapacitySearch, SystemChoice
from thunderserve.spec.gpu import Catalogue
from thunderserve.spec.slo import Slo

SCHEMA = 1
"""Version of what is stored. It enters every id, so that results of two schemas never mix."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid: served once, judged at every SLO. A capacity search is a cell for each SLO."""

    system: SystemChoice
    backend: BackendChoice
    cluster: str
    catalogue: Catalogue
    model: str
    workload: str
    rate_per_s: float | None
    """None for a replay, and for a capacity search."""
    seed: int
    requests: int | None
    """None: all that a replay recorded."""
    plan_slo: Slo
    attainment: float
    search: CapacitySearch | None
    slo: Slo | None
    """Of a capacity search: the objective whose capacity is sought."""

    @property
    def axes(self) -> Axes:
        """Where the cell lies, as results say it."""
        return Axes(
            system=self.system.shown,
            family=self.system.family,
            backend=self.backend.shown,
            cluster=self.cluster,
            catalogue=self.catalogue,
            model=self.model,
            workload=self.workload,
            rate_per_s=self.rate_per_s,
            seed=self.seed,
            requests=self.requests or 0,
        )

    @property
    def words(self) -> str:
        """One line for progress and logs."""
        rate = f"{self.rate_per_s:g}/s" if self.rate_per_s is not None else "capacity" if self.search else "replay"
        where = self.cluster if self.catalogue == "datasheet" else f"{self.cluster}({self.catalogue})"
        slo = f" {label(self.slo)}" if self.slo is not None else ""
        return f"{self.system.shown} {where} {self.model} {self.workload} {rate}{slo} seed {self.seed}"


@dataclass(frozen=True)
class Job:
    """A cell with the requests it is fed, and all that decides its result."""

    cell: Cell
    schedule: Schedule
    common: dict[str, Any]
    """What decides its plan and its result alike: code, cost constants, system, cluster, model, the planned SLO."""

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the hash of all that decides the result."""
        search, slo = self.cell.search, self.cell.slo
        return digest.short(
            self.common
            | {
                "axes": dict(vars(self.cell.axes)),
                "workload_hash": self.schedule.digest,
                "search": search.model_dump(mode="json") if search else None,
                "slo": slo.model_dump(mode="json") if slo else None,
            }
        )

    def plan_key(self, rate_per_s: float) -> str:
        """Names the plan for this rate. The seed is no part of it: all seeds share a plan, made from samples of its own."""
        return digest.short(self.common | {"workload": self.schedule.workload_digest, "rate_per_s": rate_per_s})


def label(slo: Slo) -> str:
    """``x5`` (with its limits when not all three), or ``ttft 500 ms, tpot 50 ms``."""
    if slo.scale is not None:
        limited = "" if len(slo.of) == 3 else f" of {', '.join(slo.of)}"
        return f"x{slo.scale:g}{limited}"
    limits = (("ttft", slo.ttft_s), ("tpot", slo.tpot_s), ("e2e", slo.e2e_s))
    return ", ".join(f"{name} {_duration(limit)}" for name, limit in limits if limit is not None)


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms"


def expand(resolved: Resolved) -> list[Cell]:
    """All cells, in the order of the file; rivals run side by side. A replay is the same for every seed, and runs once."""
    sweep = resolved.sweep
    return [
        Cell(
            system=system, backend=backend, cluster=cluster, catalogue=catalogue, model=model, workload=workload,
            rate_per_s=rate, seed=seed, requests=sweep.requests,
            plan_slo=plan_slo, attainment=sweep.attainment, search=sweep.search, slo=slo,
        )
        for backend, catalogue, model, cluster, workload in itertools.product(
            sweep.backend, sweep.gpu_catalogue, sweep.models, [choice.shown for choice in sweep.clusters], resolved.workloads
        )
        for rate in sweep.rates
        for slo, plan_slo in _slos(resolved)
        for seed in (sweep.seeds[:1] if resolved.workloads[workload].replays else sweep.seeds)
        for system in sweep.systems
        if (not system.clusters or cluster in system.clusters) and (not system.backends or backend.shown in system.backends)
    ]  # fmt: skip


def _slos(resolved: Resolved) -> Iterator[tuple[Slo | None, Slo]]:
    """The SLO that is part of a cell's identity (of a capacity search only), and the one its plan is made for."""
    axis = resolved.sweep.slo
    if resolved.sweep.search is None:
        yield None, axis.planned()
    else:
        for slo in axis.all():
            yield slo, axis.planned() if axis.plan is not None else slo


def identify(resolved: Resolved, schedules: Schedules) -> list[Job]:
    """Every cell with its id. Makes each schedule once."""
    clusters = {key: digest.of(cluster) for key, cluster in resolved.clusters.items()}
    models = {name: digest.of(model) for name, model in resolved.models.items()}
    sweep = resolved.sweep
    source = costs.source_digest(sweep.costs, sweep.codec_times, beside=resolved.folder)
    constants = digest.digest([source, digest.configuration_version(), digest.of(resolved.reference)])
    return [
        _job(
            resolved,
            cell,
            schedules.of(cell),
            {"cluster": clusters[cell.cluster, cell.catalogue], "model": models[cell.model], "costs": constants},
        )
        for cell in expand(resolved)
    ]


@cache
def _system_digest(name: str, folder: Path) -> str:
    return systems.source_digest(name, beside=folder)


def _job(resolved: Resolved, cell: Cell, schedule: Schedule, hashes: dict[str, str]) -> Job:
    common = hashes | {
        "schema": SCHEMA,
        "code": digest.code_version(digest.SERVING),
        "backend": cell.backend.model_dump(mode="json"),
        "backend_source": backends.source_digest(cell.backend.name, beside=resolved.folder),
        "system": cell.system.model_dump(mode="json", exclude={"clusters", "backends"}),
        "system_source": _system_digest(cell.system.name, resolved.folder),
        "plan_slo": cell.plan_slo.model_dump(mode="json"),
        "attainment": cell.attainment,
    }
    return Job(cell=replace(cell, requests=schedule.requests), schedule=schedule, common=common)
