"""What holds a plan back: how far its rate can rise before too few requests are within the SLO, and what gives way then.

The same requests are served twice: as they come, and one at a time. Their routes are the same, so what each part of a
request's life takes longer is what load did to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.plan.judge import Court, Verdict, at_pace
from thunderserve.serving.records import Records
from thunderserve.spec.plan import Plan
from thunderserve.spec.trace import Trace

TARGET = 0.9
ALONE = 1e-4
"""Pace at which requests no longer meet."""
CLOSE = 0.02
"""Relative width of the bracket around the highest rate."""
HIGHEST = 64.0
"""Multiples of the rate that are tried."""

PARTS = {
    "queue": "waiting for prefill",
    "prefill": "prefill steps",
    "room": "waiting for room at the decode side",
    "transfer": "KV transfer",
    "decode": "decode steps",
}


class Parts(NamedTuple):
    """A request's life, (N,) seconds each."""

    queue: NDArray[np.float64]
    prefill: NDArray[np.float64]
    room: NDArray[np.float64]
    transfer: NDArray[np.float64]
    decode: NDArray[np.float64]


@dataclass(frozen=True)
class Bottleneck:
    """Where a plan gives way."""

    holds_per_s: float | None
    """The highest rate at which 90 % of the requests are within the SLO; None if not even one at a time."""
    fails_per_s: float | None
    """A rate a little higher, where fewer are; None if no rate tried was too high."""
    part: str | None
    """The part of a request's life that took most of the time lost then (a key of ``PARTS``)."""
    share: float
    """Of the time lost by requests out of the SLO."""
    replica: int | None
    """Where most of it was lost."""

    def words(self, plan: Plan) -> str:
        """One line."""
        if self.holds_per_s is None:
            return f"Not even one request at a time is within the SLO for {TARGET:.0%} of them: these cards are too slow for it."
        if self.fails_per_s is None or self.part is None:
            return f"{TARGET:.0%} of the requests are within the SLO at {self.holds_per_s:.3g} req/s and beyond."
        where = (
            ""
            if self.replica is None
            else f", most of it at replica {self.replica} ({plan.replicas[self.replica].describe()})"
        )
        return (
            f"{TARGET:.0%} are within the SLO up to {self.holds_per_s:.3g} req/s; "
            f"beyond, {self.share:.0%} of the time lost is {PARTS[self.part]}{where}."
        )


def parts_of(records: Records) -> Parts:
    """Zero where a part did not happen. The KV transfer counts from the pull to its arrival, queueing for links included."""
    moved = np.isfinite(records.transfer_end_s)
    ready_s = np.where(moved, records.transfer_end_s, records.first_token_s)
    parts = (
        records.prefill_start_s - records.arrival_s,
        records.first_token_s - records.prefill_start_s,
        np.where(moved, records.transfer_start_s - records.first_token_s, 0.0),
        np.where(moved, records.transfer_end_s - records.transfer_start_s, 0.0),
        records.finish_s - ready_s,
    )
    return Parts(*(np.nan_to_num(part) for part in parts))


def bottleneck(verdict: Verdict) -> Bottleneck:
    """Search the highest pace that holds, then see what gives way just beyond it."""
    court = Court(verdict.case, verdict.plan)
    quiet = court.records(at_pace(verdict.trace, ALONE))
    rate_per_s = verdict.case.rate_per_s
    if float(court.met(verdict.trace, quiet).joint.mean()) < TARGET:
        return Bottleneck(None, None, None, 0.0, None)
    low, high = _bracket(court, verdict.trace)
    if high is None:
        return Bottleneck(low * rate_per_s, None, None, 0.0, None)
    part, share, replica = _gave_way(court, at_pace(verdict.trace, high), quiet)
    return Bottleneck(low * rate_per_s, high * rate_per_s, part, share, replica)


def _bracket(court: Court, trace: Trace) -> tuple[float, float | None]:
    """(the highest pace that holds, the lowest seen to fail): doubling or halving, then bisection."""
    low, high = 1.0, 1.0
    if _holds(court, trace, 1.0):
        while _holds(court, trace, high := 2 * low):
            low = high
            if low >= HIGHEST:
                return low, None
    else:
        while not _holds(court, trace, low := high / 2):
            high = low
            if high < ALONE:
                return high, high
    while high > low * (1 + CLOSE):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _holds(court, trace, middle) else (low, middle)
    return low, high


def _holds(court: Court, trace: Trace, pace: float) -> bool:
    faster = at_pace(trace, pace)
    return float(court.met(faster, court.records(faster)).joint.mean()) >= TARGET


def _gave_way(court: Court, trace: Trace, quiet: Records) -> tuple[str | None, float, int | None]:
    """(part, its share of the time lost by those out of the SLO, the replica where most of that was lost)."""
    records = court.records(trace)
    missed = ~court.met(trace, records).joint
    lost = {
        name: (loaded - alone)[missed].clip(min=0)
        for name, loaded, alone in zip(Parts._fields, parts_of(records), parts_of(quiet), strict=True)
    }
    total = sum(float(part.sum()) for part in lost.values())
    if total <= 0:
        return None, 0.0, None
    worst = max(lost, key=lambda name: float(lost[name].sum()))
    at = records.prefill_replica if worst in ("queue", "prefill") else records.decode_replica
    by_replica: Counter[int] = Counter()
    for replica, seconds in zip(at[missed].tolist(), lost[worst].tolist(), strict=True):
        by_replica[replica] += seconds
    return worst, float(lost[worst].sum()) / total, by_replica.most_common(1)[0][0]
