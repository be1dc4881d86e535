"""What a cell is expected to take before any was timed: little when simulated, as long as its requests come when real."""

from __future__ import annotations

from harness.sweep import backends
from harness.sweep.cells import Job

CELL_S = 0.1
"""Assumed for a cell, beside its requests."""
REQUESTS_PER_S = 100_000.0
"""Assumed simulation speed."""
START_S = 15.0
"""Assumed for starting the workers of a real engine and ending them."""


def simulated_s(requests: int) -> float:
    """Of a cell that is simulated; also what a real one takes beside the serving."""
    return CELL_S + requests / REQUESTS_PER_S


def real_s(job: Job) -> float:
    """What a real engine needs for a cell: to start, and as long as the requests come; 0 for another backend."""
    if not backends.in_real_time(job.cell.backend.name):
        return 0.0
    return START_S + job.schedule.requests / max(job.schedule.planned_rate_per_s, 1e-9)


def expected_s(job: Job) -> float:
    """Of any cell."""
    return simulated_s(job.schedule.requests) + real_s(job)
