"""What happened to each request: kept for those of a stored trace, and for the last of the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thunderserve.serving.records import Records, Status

NAN = float("nan")
Outcome = Literal["running", "finished", "cancelled", "too_long", "unavailable"]
STATUS = {"finished": Status.FINISHED, "too_long": Status.REJECTED}
"""Anything else was not served to its end."""


@dataclass
class Record:
    """One request. Times are seconds since the epoch by the clocks of coordinator and workers, NaN where nothing happened."""

    arrival_s: float
    prompt_tokens: int
    number: int | None = None
    """Its place in a stored trace."""
    output_tokens: int = 0
    """Told so far."""
    prefill_start_s: float = NAN
    """Of the attempt that gave the first token."""
    first_token_s: float = NAN
    transfer_start_s: float = NAN
    """Of the last transfer that came to its end: a second attempt has one more."""
    transfer_end_s: float = NAN
    finish_s: float = NAN
    prefill_replica: int = -1
    """Of the last attempt, as the next."""
    decode_replica: int = -1
    preemptions: int = 0
    """Of all attempts."""
    attempts: int = 0
    outcome: Outcome = "running"


class History:
    """Records of all requests.

    Args:
        most: records of requests without a number that are kept once they have ended; the oldest go first.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._numbered: dict[int, Record] = {}
        self._recent: deque[Record] = deque(maxlen=most)
        self.outcomes: Counter[str] = Counter()
        """How many requests ended how, since the start."""
        self.reruns = 0
        """Attempts beyond the first of a request."""
        self.told_tokens = 0

    def begin(self, record: Record) -> None:
        """A request has come. A number that comes again replaces what it had."""
        if record.number is not None:
            self._numbered[record.number] = record

    def end(self, record: Record, outcome: Outcome) -> None:
        """A request has ended."""
        record.outcome = outcome
        self.outcomes[outcome] += 1
        if record.number is None:
            self._recent.append(record)

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the records of these numbers."""
        for number in numbers:
            self._numbered.pop(number, None)

    def recent(self) -> tuple[Record, ...]:
        """Requests without a number that ended last, the oldest first."""
        return tuple(self._recent)

    def attempts(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """How many attempts each took; 0 for one that never came."""
        return tuple(self._numbered[n].attempts if n in self._numbered else 0 for n in numbers)

    def records(self, numbers: Iterable[int], start_s: float = 0.0) -> Records:
        """The requests of these numbers, in this order; one that never came has failed, with its tokens at 0.

        Args:
            numbers: places in a stored trace.
            start_s: when the clock of the records began, in seconds since the epoch.
        """
        return as_records([self._numbered.get(number) or Record(NAN, 0) for number in numbers], start_s)


def as_records(found: list[Record], start_s: float = 0.0) -> Records:
    """Columns of these records, with ``start_s`` as the beginning of time. ``arrival_s`` is when the coordinator had them."""

    def times(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([getattr(record, name) for record in found], np.float64) - start_s

    def counts(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([getattr(record, name) for record in found], np.int64)

    return Records(
        arrival_s=times("arrival_s"),
        prompt_tokens=counts("prompt_tokens"),
        output_tokens=counts("output_tokens"),
        prefill_start_s=times("prefill_start_s"),
        first_token_s=times("first_token_s"),
        transfer_start_s=times("transfer_start_s"),
        transfer_end_s=times("transfer_end_s"),
        finish_s=times("finish_s"),
        prefill_replica=counts("prefill_replica").astype(np.int32),
        decode_replica=counts("decode_replica").astype(np.int32),
        preemptions=counts("preemptions").astype(np.int32),
        status=np.array([STATUS.get(record.outcome, Status.FAILED) for record in found], np.int8),
    )
