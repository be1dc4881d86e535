"""The same requests for everyone: made once for a workload, rate and seed, hashed, stored, and fed to every system."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.sweep.digest import digest
from thunderserve.spec.errors import SpecError
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.trace import Trace

if TYPE_CHECKING:
    from harness.sweep.workloads import WorkloadSource

HASHED = 16
"""Hex digits of a digest that name a file."""


@dataclass(frozen=True)
class Schedule:
    """What a cell is fed, without the arrays: those lie in ``schedules/<name>.parquet``."""

    digest: str
    """SHA-256 of the requests."""
    requests: int
    workload_digest: str
    """SHA-256 of what the requests were drawn from."""
    offered_rate_per_s: float
    planned_rate_per_s: float
    """The rate a plan must carry: the nominal one, or a replay's own mean."""
    dropped: dict[str, int]
    """Requests that filters took out of the source, by reason."""

    @property
    def name(self) -> str:
        """The stem of its file."""
        return self.digest[:HASHED]


class Wanted(Protocol):
    """What of a cell decides its schedule."""

    @property
    def workload(self) -> str:
        """Its label."""
        ...

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def rate_per_s(self) -> float | None:
        """None: the workload's own pace."""
        ...

    @property
    def seed(self) -> int:
        """Of lengths and arrivals."""
        ...

    @property
    def requests(self) -> int | None:
        """None: all that were recorded."""
        ...


def store(folder: Path, trace: Trace) -> Path:
    """Save a schedule under its hash, unless it is there; its path."""
    from harness.store import atomic, columns

    path = folder / f"{trace.digest[:HASHED]}.parquet"
    if not path.exists():
        table = {name: getattr(trace, name) for name in ("arrival_s", "prompt_tokens", "output_tokens")}
        atomic.write_with(path, lambda draft: columns.write(draft, table))
    return path


def load(folder: Path, schedule: Schedule) -> Trace:
    """Read a stored schedule back. Raises ValueError when it is not the one that was hashed."""
    from harness.store import columns

    path = folder / f"{schedule.name}.parquet"
    trace = Trace(**columns.read(path), dropped=schedule.dropped)
    if trace.digest != schedule.digest:
        raise ValueError(f"{path} does not hold the requests it is named for; remove it and run again")
    return trace


def flaws(folder: Path) -> list[str]:
    """Stored schedules that do not hash to their names."""
    from harness.store import columns

    found = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            whole = Trace(**columns.read(path)).digest.startswith(path.stem)  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            found.append(f"{path.name} cannot be read: {error}")
            continue
        if not whole:
            found.append(f"{path.name} does not hold the requests it is named for")
    return found


@dataclass
class Schedules:
    """Makes schedules, each once, and keeps them until they are stored."""

    workloads: dict[str, WorkloadSource]
    models: dict[str, ModelSpec]
    max_context: bool
    """Whether requests longer than the model's context are dropped."""
    search_rate_per_s: float | None = None
    """Of a capacity search: the rate whose schedule stands for the cell."""
    traces: dict[str, Trace] = field(default_factory=dict)
    """Digest -> requests."""
    _made: dict[tuple[object, ...], Schedule] = field(default_factory=dict)

    def of(self, cell: Wanted) -> Schedule:
        """The schedule of a cell. Raises SpecError for a workload that cannot give it."""
        context = self.models[cell.model].max_context if self.max_context else None
        source = self.workloads[cell.workload]
        rate = self.search_rate_per_s if cell.rate_per_s is None else cell.rate_per_s
        key = (cell.workload, context, rate, cell.seed, cell.requests)
        if key not in self._made:
            try:
                trace = source.trace(cell.requests, rate, cell.seed, max_context=context)
            except ValueError as error:
                raise SpecError(str(error), key=f"workload {cell.workload}") from None
            self.traces[trace.digest] = trace
            self._made[key] = Schedule(
                digest=trace.digest,
                requests=len(trace),
                workload_digest=digest([source.digest, context]),
                offered_rate_per_s=trace.offered_rate_per_s,
                planned_rate_per_s=rate if rate is not None else trace.offered_rate_per_s,
                dropped=dict(trace.dropped),
            )
        return self._made[key]
