from __future__ import annotations

import json
import math

import numpy as np
import pytest

from harness import metrics
from harness.result import Axes, Facts, SweepResult, View
from harness.store import requests
from thunderserve.serving.records import Records, Status
from thunderserve.spec.slo import Latencies, Slo

AXES = Axes("vllm", "vllm", "simulated", "c", "datasheet", "m", "w", 2.0, 0, 4)
FACTS = Facts(7.2, 4, 2, "2 x TP=2, PP=1 both", "abc", 2.0, {"too long": 5, "empty": 0}, 100, 17)


def view(slo: Slo | None = None, status: tuple[int, ...] = (0, 0, 0, 0)) -> View:
    """Four requests at 0, 1, 2, 3 s: TTFT 1, 1, 2, 3; 5, 1, 6, 5 tokens; TPOT 0.1, none, 0.2, 0.5."""
    first = np.array([1.0, 2.0, 4.0, 6.0])
    records = Records(
        arrival_s=np.array([0.0, 1.0, 2.0, 3.0]),
        prompt_tokens=np.array([10, 20, 30, 40]),
        output_tokens=np.array([5, 1, 6, 5]),
        prefill_start_s=np.array([0.0, 1.5, 3.0, 5.0]),
        first_token_s=first,
        transfer_start_s=np.array([1.0, np.nan, 4.0, np.nan]),
        transfer_end_s=np.array([1.1, np.nan, 4.3, np.nan]),
        finish_s=first + np.array([0.4, 0.0, 1.0, 2.0]),
        prefill_replica=np.zeros(4, np.int32),
        decode_replica=np.zeros(4, np.int32),
        preemptions=np.array([0, 2, 0, 1], np.int32),
        status=np.array(status, np.int8),
    )
    alone = Latencies(np.full(4, 1.0), np.array([0.1, np.nan, 0.1, 0.1]), np.full(4, 1.5))
    return requests.view(records, alone, slo or Slo(ttft_s=2, tpot_s=0.3, e2e_s=2.5), AXES, FACTS)


def column(name: str, of: View | None = None) -> float:
    """One column by name, whichever metric it is of."""
    found = metrics.compute(of or view(), metrics.names()).metrics[name]
    assert found is not None
    return found


def test_attainment_joint_and_single() -> None:
    # TTFT 1 1 2 3 <= 2; TPOT .1 (none) .2 .5 <= .3; E2E 1.4 1 3 5 <= 2.5.
    assert column("slo_attainment_ttft") == 3 / 4
    assert column("slo_attainment_tpot") == 3 / 4
    assert column("slo_attainment_e2e") == 2 / 4
    assert column("slo_attainment") == 2 / 4


def test_what_was_not_served_is_a_miss_and_stays_in_the_denominator() -> None:
    lost = view(status=(Status.REJECTED, 0, 0, Status.FAILED))
    assert column("slo_attainment", lost) == 1 / 4
    assert column("unfinished_requests", lost) == 2
    assert column("ttft_mean_s", lost) == (1 + 2) / 2
    flags = metrics.compute(lost, ["ttft"]).flags
    assert flags["ttft_mean_s"] == "2 of 4 requests did not finish and have no latency"


def test_throughput_is_over_the_makespan() -> None:
    # The last token comes at 8 s; 100 prompt and 17 output tokens.
    assert column("throughput_tokens_per_s") == 117 / 8
    assert column("throughput_output_tokens_per_s") == 17 / 8
    assert column("throughput_requests_per_s") == 4 / 8


def test_latencies_count_from_the_intended_arrival() -> None:
    assert column("ttft_mean_s") == (1 + 1 + 2 + 3) / 4
    assert column("ttft_p50_s") == 1
    assert column("ttft_p90_s") == 3
    assert column("e2e_mean_s") == pytest.approx((1.4 + 1 + 3 + 5) / 4)
    assert column("queueing_mean_s") == (0 + 0.5 + 1 + 2) / 4


def test_tpot_weighs_requests_and_itl_weighs_tokens() -> None:
    assert column("tpot_mean_s") == pytest.approx((0.4 / 4 + 1.0 / 5 + 2.0 / 4) / 3)
    assert column("itl_mean_s") == pytest.approx((0.4 + 1.0 + 2.0) / (4 + 5 + 4))


def test_goodput_is_offered_rate_times_attainment() -> None:
    assert column("goodput_per_s") == 2.0 * 0.5
    assert column("goodput_per_gpu_per_s") == 2.0 * 0.5 / 4


def test_cost_is_of_the_whole_cluster() -> None:
    # 7.2 USD/h is 0.002 USD/s.
    assert column("cost_usd_per_million_tokens") == pytest.approx(0.002 / (117 / 8) * 1e6)
    assert column("cost_usd_per_million_output_tokens") == pytest.approx(0.002 / (17 / 8) * 1e6)
    assert column("tokens_per_usd") == pytest.approx(117 / 8 / 0.002)
    assert column("goodput_per_usd") == pytest.approx(1.0 / 0.002)


def test_transfer_preemptions_rates_and_drops() -> None:
    assert column("transfer_mean_s") == pytest.approx((0.1 + 0.3) / 2)
    assert column("preemptions_per_request") == 3 / 4
    assert column("offered_rate_per_s") == 2.0
    assert column("achieved_rate_per_s") == 0.5
    measured = metrics.compute(view(), ["rates", "dropped"])
    assert measured.flags["achieved_rate_per_s"] == "served 0.5 requests/s of 2 offered: the queue grew"
    assert measured.metrics["dropped_requests"] == 5
    assert measured.flags["dropped_requests"] == "5 too long"


def test_nothing_served_gives_nulls_not_crashes() -> None:
    measured = metrics.compute(view(status=(1, 1, 1, 1)), metrics.names())
    assert measured.metrics["slo_attainment"] == 0
    assert measured.metrics["ttft_p99_s"] is None
    assert measured.metrics["cost_usd_per_million_tokens"] is None
    json.dumps(measured, allow_nan=False)


def test_four_requests_give_no_tail() -> None:
    measured = metrics.compute(view(), ["ttft"])
    assert measured.flags["ttft_p99_s"] == "p99 from 4 requests; its interval needs 368"
    assert "ttft_p99_s" not in measured.intervals


def test_every_metric_describes_itself() -> None:
    assert {"slo_attainment", "throughput", "ttft", "tpot", "e2e", "goodput", "cost", "itl"} <= set(metrics.names())
    for name in metrics.names():
        described = metrics.describe(name)
        assert described.unit
        assert described.formula
        assert len(described.doc) > 20
        assert described.direction in ("up", "down", "")


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"there is no metric 'speed'; choose from .*throughput"):
        metrics.describe("speed")


def test_intervals_stay_in_their_domain_and_hold_their_value(sweep: SweepResult) -> None:
    for cell in sweep.cells:
        for judged in cell.judged:
            for name, (low, high) in judged.intervals.items():
                value = judged.metrics[name]
                assert value is not None
                assert 0 <= low <= value + 1e-9, name
                assert value <= high + 1e-9, name
                assert not name.startswith("slo_attainment") or high <= 1


def test_a_wider_slo_is_never_harder(sweep: SweepResult) -> None:
    for cell in sweep.cells:
        shares = [judged.metrics["slo_attainment"] for judged in cell.judged]
        assert shares == sorted(shares, key=lambda share: -1.0 if share is None else share)


def test_saved_requests_give_the_same_numbers_again(sweep: SweepResult) -> None:
    cell = sweep.cells[5]
    again = metrics.compute(cell.view(cell.judged[1].slo), metrics.names())
    assert again.metrics == cell.judged[1].metrics
    assert all(value is None or math.isfinite(value) for value in again.metrics.values())
