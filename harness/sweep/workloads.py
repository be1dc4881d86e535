"""Workloads by name, by mapping or by path, as the harness sees them: where the requests of a schedule are drawn from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.sweep.digest import digest
from thunderserve.spec.trace import Trace
from thunderserve.workload import Workload, load

FINGERPRINT = 1024
"""Requests drawn to tell a workload from another."""


@dataclass(frozen=True)
class WorkloadSource:
    """A workload, ready to be drawn from."""

    workload: Workload

    @property
    def replays(self) -> bool:
        """Whether arrivals are the source's own timestamps: equal for every seed, and with no need of a rate."""
        return self.workload.replays

    @cached_property
    def digest(self) -> str:
        """Tells apart workloads that give other requests: a hash of a sample, and of how they arrive."""
        parts = (self.workload.arrivals, self.workload.limits, self.workload.stretches)
        return digest([self.workload.sample(FINGERPRINT, 1.0, 0).digest, *(repr(part) for part in parts)])

    def trace(self, requests: int | None, rate_per_s: float | None, seed: int, *, max_context: int | None) -> Trace:
        """The requests of one seed at one rate; longer ones than ``max_context`` are dropped and counted."""
        return self.workload.trace(requests, rate_per_s, seed, max_context=max_context)

    def sample(self, requests: int, rate_per_s: float, seed: int, *, max_context: int | None) -> Trace:
        """Other requests of the same kind, for planning: never those of a schedule."""
        return self.workload.sample(requests, rate_per_s, seed, max_context=max_context)


def open_workload(spec: Any, *, arrivals: Any, beside: Path, file: Path, at: tuple[str | int, ...]) -> WorkloadSource:
    """The workload that a sweep names. ``arrivals`` are the sweep's, for entries without their own. Raises SpecError.

    A mapping keeps its line marks, which errors name.
    """
    given = {"base": spec} if isinstance(spec, str) and arrivals is not None else copy.deepcopy(spec)
    if isinstance(given, dict):
        given.pop("label", None)
        if arrivals is not None:
            given.setdefault("arrivals", arrivals)
    return WorkloadSource(load(given, beside=beside, file=file, at=at))
