"""The search for the highest rate that holds: bracket, probes, verdict."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.run.capacity import metric, rates
from harness.run.drive import Run
from harness.sweep.sweep import CapacitySearch

Start = Callable[..., Run]


@given(truth=st.floats(0.02, 4000), start=st.floats(0.05, 500), tolerance=st.floats(0.01, 0.5))
def test_the_bracket_holds_the_true_capacity(truth: float, start: float, tolerance: float) -> None:
    search = CapacitySearch(start_per_s=start, tolerance=tolerance)
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= truth

    low, high = rates(search, holds)
    assert high is not None
    assert low <= truth < high
    assert high - low <= tolerance * high
    assert len(tried) == len(set(tried))


def test_where_nothing_holds_the_capacity_is_zero() -> None:
    low, high = rates(CapacitySearch(start_per_s=1, lowest_per_s=0.25), lambda rate: False)
    assert (low, high) == (0.0, 0.25)


def test_where_all_holds_there_is_no_upper_end() -> None:
    assert rates(CapacitySearch(start_per_s=1, highest_per_s=100), lambda rate: True) == (100.0, None)


def test_the_name_of_the_metric_says_the_share() -> None:
    assert metric(CapacitySearch(attainment=0.9)) == "capacity@90"
    assert metric(CapacitySearch(attainment=0.995)) == "capacity@99.5"


def search_of(start: Start, requests: int) -> tuple[dict[str, object], dict[str, object]]:
    """The stand-in backend is late above 10 requests/s, and on time below."""
    run = start(
        "rate={capacity: {attainment: 0.9, tolerance: 0.1}}", "seeds=[0]", f"requests={requests}", "slo={ttft: 1 s}"
    )
    assert run.tally.failed == 0
    folder = run.finish.result.cells[0].folder  # type: ignore[union-attr]
    return json.loads((folder / "probes.json").read_text()), json.loads((folder / "summary.json").read_text())


def test_a_search_stores_its_probes_its_bracket_and_its_verdict(start: Start) -> None:
    probes, summary = search_of(start, 200)
    low, high = probes["low_per_s"], probes["high_per_s"]
    # Rates are nominal, the stand-in goes by what is offered: a random schedule is a little off.
    assert 8 <= low < high <= 12  # type: ignore[operator]
    judged = summary["judged"][0]  # type: ignore[index]
    assert judged["metrics"]["capacity@90"] == low
    assert judged["intervals"]["capacity@90"] == [low, high]
    assert judged["flags"]["capacity@90"].startswith("holds at 200 requests")
    by_rate = {probe["rate_per_s"]: probe for probe in probes["probes"]}  # type: ignore[attr-defined]
    assert by_rate[low]["attained"] == 1.0
    assert by_rate[low]["verdict"] == "holds"
    assert by_rate[high]["attained"] == 0.0
    assert by_rate[high]["verdict"] == "fails"
    assert len({probe["workload_hash"] for probe in by_rate.values()}) == len(by_rate)


def test_few_requests_leave_it_undetermined(start: Start) -> None:
    _, summary = search_of(start, 10)
    assert summary["judged"][0]["flags"]["capacity@90"].startswith("undetermined at 10 requests")  # type: ignore[index]


def test_each_slo_is_a_cell_of_its_own(start: Start) -> None:
    run = start("rate={capacity: {attainment: 0.9}}", "seeds=[0]", "slo={scale: [2, 5]}")
    cells = run.finish.result.cells  # type: ignore[union-attr]
    assert len(cells) == 4
    assert all(len(cell.judged) == 1 for cell in cells)
    assert start("rate={capacity: {attainment: 0.9}}", "seeds=[0]", "slo={scale: [2, 5]}").tally.found == 4


@pytest.mark.parametrize("metrics", ["[slo_attainment]", "[slo_attainment, ttft]"])
def test_judging_again_keeps_the_capacity(start: Start, metrics: str) -> None:
    common = ("rate={capacity: {attainment: 0.9}}", "seeds=[0]", "slo={ttft: 1 s}")
    start(*common)
    run = start(*common, f"metrics={metrics}")
    assert run.tally.done == 2
    for cell in run.finish.result.cells:  # type: ignore[union-attr]
        assert cell.judged[0].metrics["capacity@90"] == cell.axes.rate_per_s
