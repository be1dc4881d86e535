"""The eight-GPU test under other assumptions: the arithmetic, on a quick setting."""

from __future__ import annotations

import argparse

import pytest

from harness.bench import _bandwidth_assumptions as assumptions
from harness.bench.bandwidth import Row, best_of

GIVEN = argparse.Namespace(catalogue="paper", workload="fixed-512-128", requests=150, rates=[4.0])
SPLIT = Row("split", 40, "thunderserve", {"steps": 3, "no_gain": 2, "requests": 100, "judged_requests": 100})


def test_throughput_within_an_slo_is_below_that_of_a_flood() -> None:
    best = best_of(SPLIT, GIVEN)
    held = assumptions._held(best, GIVEN.requests)
    assert 0 < held < best.tokens_per_s * 1.05
    rate = held / (512 + 128)
    assert assumptions._holds(best.case, best.plan, rate, GIVEN.requests)
    assert not assumptions._holds(best.case, best.plan, rate + assumptions.MOST_PER_S / 2**6, GIVEN.requests)


def test_one_sequence_at_a_time_serves_least() -> None:
    colocated = {one.title: one.colocated for one in assumptions.ASSUMPTIONS}
    quick = {"requests": 100}
    few, whole = (
        best_of(row._replace(options=row.options | quick), GIVEN).tokens_per_s
        for row in (colocated["one sequence at a time"], colocated["whole prompts first (vLLM V0)"])
    )
    assert few < whole / 3


def test_titles_differ_and_the_paper_is_what_it_says() -> None:
    titles = [one.title for one in assumptions.ASSUMPTIONS]
    assert len(set(titles)) == len(titles)
    assert pytest.approx((2.04, 1.36), abs=0.01) == assumptions.PAPER
