"""What happened to each request: one record a request, as columns. Latencies are derived here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.spec.slo import Latencies
from thunderserve.spec.trace import Trace

Floats = NDArray[np.float64]


class Status(IntEnum):
    """How a request ended. Anything but ``FINISHED`` misses every SLO."""

    FINISHED = 0
    REJECTED = 1
    """Could never fit, or was refused."""
    FAILED = 2
    """Accepted and not served to the end."""


@dataclass(frozen=True)
class Records:
    """N requests in the order of the trace. Times are seconds on the trace's clock, NaN where nothing happened."""

    arrival_s: Floats
    """The *intended* arrival: every latency counts from here."""
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    prefill_start_s: Floats
    first_token_s: Floats
    transfer_start_s: Floats
    """When the KV began to leave the prefill replica; NaN when it never moved."""
    transfer_end_s: Floats
    finish_s: Floats
    prefill_replica: NDArray[np.int32]
    """-1 when the request reached none."""
    decode_replica: NDArray[np.int32]
    preemptions: NDArray[np.int32]
    status: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def finished(self) -> NDArray[np.bool_]:
        """(N,) which requests were served to the end."""
        return np.equal(self.status, Status.FINISHED)

    @property
    def latencies(self) -> Latencies:
        """TTFT, TPOT and E2E from the intended arrival; NaN for requests that did not finish.

        TTFT = first token - arrival. TPOT = (last - first) / (n - 1), NaN for one token. E2E = last - arrival. The KV
        transfer lies between the first and the second token, so it counts into TPOT.
        """
        served = np.where(self.finished, 0.0, np.nan)
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return Latencies(
            ttft_s=self.first_token_s - self.arrival_s + served,
            tpot_s=(self.finish_s - self.first_token_s) / gaps + served,
            e2e_s=self.finish_s - self.arrival_s + served,
        )

    @property
    def transfer_s(self) -> Floats:
        """(N,) seconds from the start of the KV transfer to its end; NaN where there was none."""
        return self.transfer_end_s - self.transfer_start_s

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Name -> array, in the order of the fields: the table that is stored."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class ReplicaSeries:
    """State of one replica after each of its steps (T,): what filled it, and what waited."""

    time_s: Floats
    running: NDArray[np.int64]
    waiting: NDArray[np.int64]
    kv_blocks_used: NDArray[np.int64]
    step_tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Served:
    """What a backend returns: the records, and time series a replica where they were asked for."""

    records: Records
    series: tuple[ReplicaSeries, ...] = ()
    counters: dict[str, float] = field(default_factory=dict)
    """Totals over the run, by name: steps, preemptions, busy seconds ..."""


class Met(NamedTuple):
    """Which requests met each limit, booleans of shape (N,)."""

    ttft: NDArray[np.bool_]
    tpot: NDArray[np.bool_]
    e2e: NDArray[np.bool_]

    @property
    def joint(self) -> NDArray[np.bool_]:
        """Which requests met all three."""
        return self.ttft & self.tpot & self.e2e


def meets(records: Records, limits: Latencies) -> Met:
    """Hold ``records`` against ``limits``, request by request.

    A request that did not finish meets none. TPOT of a single token is met by definition: there is no second token.
    """
    seen = records.latencies
    return Met(
        ttft=records.finished & (seen.ttft_s <= limits.ttft_s),
        tpot=records.finished & ((records.output_tokens == 1) | (seen.tpot_s <= limits.tpot_s)),
        e2e=records.finished & (seen.e2e_s <= limits.e2e_s),
    )


def empty_records(trace: Trace) -> Records:
    """Records of a trace nobody has served yet: every time NaN, every status failed."""
    count = len(trace)
    return Records(
        arrival_s=trace.arrival_s,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        prefill_start_s=np.full(count, np.nan),
        first_token_s=np.full(count, np.nan),
        transfer_start_s=np.full(count, np.nan),
        transfer_end_s=np.full(count, np.nan),
        finish_s=np.full(count, np.nan),
        prefill_replica=np.full(count, -1, np.int32),
        decode_replica=np.full(count, -1, np.int32),
        preemptions=np.zeros(count, np.int32),
        status=np.full(count, Status.FAILED, np.int8),
    )
