"""Loads and bottlenecks: conservation, brute force, and brackets that are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan.bottleneck import Parts, bottleneck, parts_of
from harness.plan.judge import Court, Verdict, _covered_s, at_pace, transfers
from thunderserve.spec.kv import INT4


def test_requests_are_shared_as_the_flows_say(verdict: Verdict) -> None:
    loads = verdict.replicas
    assert [load.prefilled for load in loads] == pytest.approx([0.6, 0.4, 0.0, 0.0], abs=0.01)
    assert [load.decoded for load in loads] == pytest.approx([0.0, 0.0, 0.5, 0.5], abs=0.01)
    assert all(0 < load.busy <= 1 and 0 < load.kv <= 1 and load.batch >= 1 for load in loads)


def test_the_bytes_that_cross_links_are_the_kv_of_all_prompts(verdict: Verdict) -> None:
    model, window_s = verdict.case.model, float(verdict.records.finish_s.max())
    moved = sum(load.bytes_per_s for load in verdict.links.values()) * window_s
    expected = verdict.trace.prompt_tokens.sum() * model.kv_bytes_per_token(INT4.bits_per_value)
    assert moved == pytest.approx(expected, rel=1e-9)
    assert set(verdict.links) == {("a40", "3090ti")}
    assert all(0 < load.busy <= 1 for load in verdict.links.values())


def test_a_link_is_busy_for_all_its_transfers(verdict: Verdict) -> None:
    records, busy_s = verdict.records, 0.0
    known = transfers(verdict.case, verdict.plan)
    for prefill, decode, tokens in zip(
        records.prefill_replica, records.decode_replica, records.prompt_tokens, strict=True
    ):
        one = known[int(prefill), int(decode)]
        busy_s += one.alpha_s + one.wire_s_per_token * tokens
    found = verdict.links["a40", "3090ti"].busy * records.finish_s.max()
    assert found == pytest.approx(busy_s, rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=12))
def test_covered_time_against_counting(spans: list[tuple[int, int]]) -> None:
    start = np.array([float(a) for a, _ in spans])
    end = np.array([float(a + length) for a, length in spans])
    seconds = sum(any(a <= second < a + length for a, length in spans) for second in range(45))
    assert _covered_s(start, end) == seconds


def test_the_parts_of_a_life_add_up(verdict: Verdict) -> None:
    total = sum(parts_of(verdict.records))
    assert np.allclose(total, verdict.records.latencies.e2e_s, atol=1e-9)
    assert all((part >= -1e-12).all() for part in parts_of(verdict.records))
    assert Parts._fields == ("queue", "prefill", "room", "transfer", "decode")


def test_the_highest_rate_holds_and_the_next_fails(verdict: Verdict) -> None:
    found = bottleneck(verdict)
    court = Court(verdict.case, verdict.plan)
    assert found.holds_per_s is not None
    assert found.fails_per_s is not None
    for rate, holds in ((found.holds_per_s, True), (found.fails_per_s, False)):
        trace = at_pace(verdict.trace, rate / verdict.case.rate_per_s)
        assert (court.met(trace, court.records(trace)).joint.mean() >= 0.9) == holds
    assert found.fails_per_s <= 1.021 * found.holds_per_s
    assert found.part is not None
    assert found.replica in range(4)


def test_a_slow_link_is_found_to_be_the_bottleneck(verdict: Verdict) -> None:
    from dataclasses import replace

    cluster = verdict.case.cluster
    slow = tuple(
        pair.model_copy(update={"link": pair.link.model_copy(update={"bytes_per_s": 0.12e9})})
        for pair in cluster.between
    )
    case = replace(verdict.case, cluster=cluster.model_copy(update={"between": slow}))
    found = bottleneck(Court(case, verdict.plan).verdict(verdict.trace))
    assert found.part in ("transfer", "room")
