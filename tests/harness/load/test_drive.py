"""The open loop against real servers that are slow, refuse, break off or talk nonsense."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Scripted, running

from harness.load.asks import Ask
from harness.load.drive import Glance, drive
from harness.load.outcome import LoadResult
from harness.load.records import records_of, summary_of, write
from harness.store import columns
from thunderserve.serving.records import Status
from thunderserve.spec.errors import SpecError


def asks(count: int, gap_s: float, tokens: int = 5) -> list[Ask]:
    return [Ask(i * gap_s, (1, 2, 3), 3, tokens) for i in range(count)]


def driven(scripted: Scripted, wanted: list[Ask], **how: Any) -> LoadResult:
    async def main() -> LoadResult:
        async with running(scripted) as url:
            return await drive(url, "some-model", wanted, **how)

    return asyncio.run(asyncio.wait_for(main(), 20))


def test_a_slow_server_does_not_slow_the_dispatch() -> None:
    scripted = Scripted(first_s=2.5)
    result = driven(scripted, asks(100, 0.005))
    assert scripted.most_at_once == 100
    sent_s = [one.sent_s for one in result.outcomes if one.sent_s is not None]
    assert len(sent_s) == 100
    assert max(sent_s) < min(one.token_s[0] for one in result.outcomes)  # all had left before the first was answered
    slips_s = np.array(sent_s) - 0.005 * np.arange(100)
    assert slips_s.min() > -0.002
    summary = summary_of(result)
    assert summary.finished == 100
    assert summary.slip_max_s == pytest.approx(slips_s.max())
    assert summary.slip_p50_s == pytest.approx(np.sort(slips_s)[49])


def test_times_are_those_of_the_server_and_count_from_the_intended_arrival() -> None:
    result = driven(Scripted(first_s=0.1, gap_s=0.05), asks(5, 0.1))
    records = records_of(result)
    latencies = records.latencies
    assert records.arrival_s.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert np.all(latencies.ttft_s >= 0.1)
    assert np.median(latencies.ttft_s) < 0.3
    assert np.median(latencies.tpot_s) == pytest.approx(0.05, abs=0.04)
    for one in result.outcomes:
        assert len(one.token_s) == 5
        assert one.finish_s == one.token_s[-1]
        assert one.sent_s is not None
        assert one.intended_s <= one.sent_s + 1e-3 <= one.token_s[0]
    assert summary_of(result).gap_p50_s == pytest.approx(0.05, abs=0.04)


def test_a_dispatcher_that_is_held_up_says_so() -> None:
    held_up: list[Glance] = []

    def block(glance: Glance) -> None:
        held_up.append(glance)
        time.sleep(0.15)

    result = driven(Scripted(), asks(20, 0.01), look=block)
    summary = summary_of(result)
    assert held_up
    assert summary.slip_max_s > 0.1
    (flag,) = summary.flags(0.5)
    assert "slip exceeds 5% of the TTFT SLO" in flag
    assert summary.flags(60.0) == []
    assert summary.flags(None) == []
    late = max(result.outcomes, key=lambda one: one.slip_s or 0)
    place = result.outcomes.index(late)
    assert records_of(result).latencies.ttft_s[place] >= summary.slip_max_s


TROUBLE = {
    3: ("busy", "HTTP 503: no worker", Status.FAILED),
    4: ("refused", "HTTP 400: go away", Status.REJECTED),
    5: ("disconnect", "Payload", Status.FAILED),
    6: ("malformed", "a chunk that cannot be read", Status.FAILED),
    7: ("error", "workers are gone", Status.FAILED),
    8: ("cut", "the stream ended before the answer did", Status.FAILED),
    9: ("silent", "no whole answer within 1.5 s", Status.FAILED),
    10: ("odd", "", Status.FINISHED),
    11: ("", "", Status.FINISHED),
}


def test_every_trouble_is_a_record_in_words_and_the_others_are_served(tmp_path: Path) -> None:
    scripted = Scripted(trouble={tokens: kind for tokens, (kind, _, _) in TROUBLE.items()})
    wanted = [Ask(0.01 * tokens, (1, 2, 3), 3, tokens) for tokens in TROUBLE]
    result = driven(scripted, wanted, timeout_s=1.5)
    assert len(scripted.bodies) == len(wanted)  # nothing is retried
    records = records_of(result)
    for place, (_, words, status) in enumerate(TROUBLE.values()):
        one = result.outcomes[place]
        assert words in one.error
        assert bool(one.error) == (status != Status.FINISHED)
        assert records.status[place] == status
        assert np.isnan(records.finish_s[place]) == (status != Status.FINISHED)
    assert records.output_tokens.tolist() == list(TROUBLE)
    assert records.prefill_replica.tolist() == [-1] * len(wanted)
    write(tmp_path / "records.parquet", result)
    table = columns.read(tmp_path / "records.parquet")
    assert set(records.columns()) < set(table)
    for name, values in records.columns().items():
        np.testing.assert_array_equal(table[name], values)
    assert [str(error) for error in table["error"]] == [one.error for one in result.outcomes]


def test_a_server_that_is_not_there_fails_every_request_in_words() -> None:
    result = asyncio.run(drive("http://127.0.0.1:9", "m", asks(3, 0.01)))
    assert {one.status for one in result.outcomes} == {None}
    assert all("Connect" in one.error for one in result.outcomes)
    assert summary_of(result).finished == 0
    with pytest.raises(SpecError, match="warm-up"):
        asyncio.run(drive("http://127.0.0.1:9", "m", asks(3, 0.01), warm_up=asks(1, 0)))


def test_output_tokens_are_those_of_the_usage_else_the_events() -> None:
    for usage in (True, False):
        result = driven(Scripted(usage=usage), asks(2, 0.01, tokens=7))
        assert [one.tokens for one in result.outcomes] == [7, 7]
        assert [one.prompt_tokens for one in result.outcomes] == [3 if usage else None] * 2
        assert records_of(result).prompt_tokens.tolist() == [3, 3]


def test_what_is_sent_asks_for_exactly_so_many_tokens_and_warm_ups_are_not_counted() -> None:
    scripted = Scripted()
    result = driven(scripted, asks(2, 0.01, tokens=4), warm_up=asks(3, 0, tokens=2))
    assert [body["max_tokens"] for body in scripted.bodies] == [2, 2, 2, 4, 4]
    assert {body["ignore_eos"] for body in scripted.bodies} == {True}
    assert scripted.bodies[-1]["prompt"] == [1, 2, 3]
    assert len(result.outcomes) == 2


def test_an_interrupt_cancels_what_is_in_flight_and_sends_no_more() -> None:
    scripted = Scripted(first_s=30)

    async def main() -> LoadResult:
        stop = asyncio.Event()
        async with running(scripted) as url:
            asyncio.get_running_loop().call_later(0.3, stop.set)
            return await drive(url, "m", asks(10, 0.1), stop=stop)

    began_s = time.perf_counter()
    result = asyncio.run(main())
    assert time.perf_counter() - began_s < 5
    assert result.interrupted
    sent = len(scripted.came_s)
    assert 1 <= sent < 10
    assert [one.error for one in result.outcomes[: sent - 1]] == ["interrupted"] * (sent - 1)
    assert result.outcomes[-1].error == "not sent: the run was interrupted"
    assert not records_of(result).finished.any()


def test_an_interrupt_ends_the_warm_up_too() -> None:
    scripted = Scripted(first_s=30)

    async def main() -> LoadResult:
        stop = asyncio.Event()
        async with running(scripted) as url:
            asyncio.get_running_loop().call_later(0.3, stop.set)
            return await drive(url, "m", asks(2, 0.1), warm_up=asks(1, 0), stop=stop)

    result = asyncio.run(asyncio.wait_for(main(), 5))
    assert result.interrupted
    assert len(scripted.came_s) == 1
    assert {one.error for one in result.outcomes} == {"not sent: the run was interrupted"}
