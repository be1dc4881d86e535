"""From outcomes to the records that every metric reads, and what is to be said of the load generator itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.load.outcome import LoadResult, Outcome
from harness.store import atomic, columns
from thunderserve.serving.records import Records, Status, empty_records
from thunderserve.spec.trace import Trace

SLIP_SHARE = 0.05
"""Of the TTFT limit: a slip above it makes TTFT a measurement of the load generator."""


def records_of(result: LoadResult) -> Records:
    """A record a request; latencies count from the intended arrival. What happens inside the server is not known: NaN and -1."""
    outcomes = result.outcomes
    trace = Trace(
        np.array([ask.arrival_s for ask in result.asks], np.float64),
        np.array([_prompt(ask.prompt_tokens, one) for ask, one in zip(result.asks, outcomes, strict=True)], np.int64),
        np.array([_output(ask.output_tokens, one) for ask, one in zip(result.asks, outcomes, strict=True)], np.int64),
    )
    return replace(
        empty_records(trace),
        first_token_s=_seconds([one.token_s[0] if one.token_s else None for one in outcomes]),
        finish_s=_seconds([one.finish_s for one in outcomes]),
        status=np.array([_status(one) for one in outcomes], np.int8),
    )


def _prompt(wanted: int, outcome: Outcome) -> int:
    return outcome.prompt_tokens or wanted


def _output(wanted: int, outcome: Outcome) -> int:
    """Of what did not finish, as asked for, as in any other record."""
    return outcome.tokens if _status(outcome) is Status.FINISHED else wanted


def _status(outcome: Outcome) -> Status:
    if not outcome.error and outcome.finish_s is not None and outcome.tokens > 0:
        return Status.FINISHED
    refused = outcome.status is not None and 400 <= outcome.status < 500
    return Status.REJECTED if refused else Status.FAILED


def _seconds(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def write(path: Path, result: LoadResult) -> None:
    """Save the records as a table, with what only a load generator knows: when each was sent, HTTP status and error."""
    more: columns.Columns = {
        "sent_s": _seconds([one.sent_s for one in result.outcomes]),
        "http_status": np.array([one.status or 0 for one in result.outcomes], np.int32),
        "error": np.array([one.error for one in result.outcomes], object),
    }
    table: columns.Columns = {**records_of(result).columns(), **more}
    atomic.write_with(path, lambda draft: columns.write(draft, table))


class Summary(NamedTuple):
    """Of the run itself."""

    sent: int
    finished: int
    slip_p50_s: float
    slip_p99_s: float
    slip_max_s: float
    gap_p50_s: float
    """Between tokens of one answer, of whole answers."""
    gap_p99_s: float
    other_length: int
    """Whole answers that do not have the tokens that were asked for: the server ignores ``ignore_eos``."""
    errors: tuple[tuple[str, int], ...]
    """In words, and how often; the most frequent first."""

    def flags(self, ttft_s: float | None) -> list[str]:
        """What makes the figures doubtful. ``ttft_s``: the limit on TTFT, where there is one."""
        found = []
        if ttft_s is not None and self.slip_p99_s > SLIP_SHARE * ttft_s:
            found.append(
                f"slip exceeds {SLIP_SHARE:.0%} of the TTFT SLO: requests left {self.slip_p99_s * 1e3:.3g} ms late (p99), "
                f"the limit is {ttft_s * 1e3:.3g} ms; run the load generator on a machine of its own"
            )
        if self.other_length:
            found.append(f"{self.other_length} answers do not have the length that was asked for")
        return found


def summary_of(result: LoadResult) -> Summary:
    """Percentiles are by nearest rank; NaN where there is nothing."""
    outcomes = result.outcomes
    slips = np.array([one.slip_s for one in outcomes if one.slip_s is not None])
    whole = [(ask, one) for ask, one in zip(result.asks, outcomes, strict=True) if _status(one) is Status.FINISHED]
    gaps = np.concatenate([np.diff(one.token_s) for _, one in whole] or [np.empty(0)])
    return Summary(
        sent=len(slips),
        finished=len(whole),
        slip_p50_s=_rank(slips, 0.5),
        slip_p99_s=_rank(slips, 0.99),
        slip_max_s=_rank(slips, 1.0),
        gap_p50_s=_rank(gaps, 0.5),
        gap_p99_s=_rank(gaps, 0.99),
        other_length=sum(ask.output_tokens != one.tokens for ask, one in whole),
        errors=tuple(Counter(one.error for one in outcomes if one.error).most_common()),
    )


def _rank(values: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf")) if len(values) else float("nan")
