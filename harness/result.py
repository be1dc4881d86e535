"""What came out: one cell judged at every SLO, and a sweep of them. Everything downstream reads only this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thunderserve.serving.records import Met, Records
    from thunderserve.spec.slo import Latencies, Slo


@dataclass(frozen=True)
class Axes:
    """Where a cell lies in the grid."""

    system: str
    """Its label, e.g. ``distserve[affinity=low]``."""
    family: str
    """Its module's name, e.g. ``distserve``."""
    backend: str
    cluster: str
    catalogue: str
    model: str
    workload: str
    rate_per_s: float | None
    """None: replay of the workload's own timestamps. In a capacity cell, the highest rate that was seen to hold."""
    seed: int
    requests: int


@dataclass(frozen=True)
class Facts:
    """What is true of a cell whatever the SLO."""

    price_per_hour: float
    """USD for an hour of the whole cluster, used or not: what is rented is paid."""
    num_gpus: int
    num_replicas: int
    plan: str
    """One line, e.g. ``4 x TP=2, PP=1 both``."""
    workload_hash: str
    """SHA-256 of the requests that were served; equal for every system at the same workload, rate and seed."""
    offered_rate_per_s: float
    dropped: dict[str, int]
    """Requests that filters took out of the source, by reason."""
    prompt_tokens: int
    output_tokens: int
    counters: dict[str, float] = field(default_factory=dict)
    """What the backend counted beside the records: an engine's own figures, slips of the clock. Empty where it counts nothing."""


@dataclass(frozen=True)
class View:
    """All a metric may look at: one cell at one SLO."""

    records: Records
    alone: Latencies
    limits: Latencies
    met: Met
    slo: Slo
    axes: Axes
    facts: Facts


@dataclass(frozen=True)
class Judged:
    """The metrics of one cell at one SLO, by column name."""

    slo: Slo
    label: str
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    flags: dict[str, str]


@dataclass(frozen=True)
class CellResult:
    """A finished cell, read from its folder."""

    id: str
    folder: Path
    axes: Axes
    facts: Facts
    judged: tuple[Judged, ...]
    warnings: tuple[str, ...]
    commit: str

    def view(self, slo: Slo) -> View:
        """The saved requests held against ``slo``."""
        from harness.store.requests import read_view

        return read_view(self, slo)


@dataclass(frozen=True)
class Failure:
    """A cell that failed, and why."""

    id: str
    folder: Path
    axes: Axes
    error: str
    traceback: str


@dataclass(frozen=True)
class SweepResult:
    """All cells of a sweep that are on disk, in the sweep's order."""

    name: str
    folder: Path
    cells: tuple[CellResult, ...]
    failed: tuple[Failure, ...]
    manifest: dict[str, Any]
