from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from harness import comparison, notation
from harness.result import Failure, SweepResult
from harness.statistics.value import Value
from harness.table import print_comparison

Build = Callable[..., SweepResult]


def printed(result: SweepResult, width: int = 120, *, terminal: bool = False) -> str:
    out = io.StringIO()
    print_comparison(result, Console(file=out, width=width, force_terminal=terminal, color_system=None))
    return out.getvalue()


def group(result: SweepResult, system: str, workload: str, rate: float) -> comparison.Group:
    (found,) = [
        g for g in comparison.groups(result)
        if g.system == system and g.place.workload == workload and g.place.rate_per_s == rate
    ]  # fmt: skip
    return found


def test_seeds_are_put_together_and_nothing_else(sweep: SweepResult) -> None:
    found = comparison.groups(sweep)
    assert len(found) == 2 * 2 * 4
    assert all(len(g.cells) == 3 for g in found)
    one = group(sweep, "vllm", "azure-code", 4.0)
    shares = [judged.metrics["slo_attainment"] for judged in one.judged("x5")]
    value = one.value("x5", "slo_attainment")
    assert value.value == pytest.approx(np.mean(np.array(shares, float)))


def test_real_backends_are_one_place_where_each_system_has_its_own(sweep: SweepResult) -> None:
    def on(**backends: str) -> SweepResult:
        cells = (
            replace(c, axes=replace(c.axes, backend=backends.get(c.axes.family, "simulated"))) for c in sweep.cells
        )
        return replace(sweep, cells=tuple(cells))

    def places(result: SweepResult) -> set[str]:
        return {g.place.backend for g in comparison.groups(result)}

    real = on(vllm="mine", distserve="theirs")
    assert len(places(real)) == 1
    assert set(places(real).pop().split(" / ")) == {"mine", "theirs"}
    assert "Against" in printed(real)
    twice = replace(real, cells=(*real.cells, *on(vllm="theirs", distserve="theirs").cells))
    assert places(twice) == {"mine", "theirs"}
    assert places(replace(real, cells=(*real.cells, *sweep.cells))) == {places(real).pop(), "simulated"}


def test_goodput_never_exceeds_what_is_offered(sweep: SweepResult) -> None:
    for g in comparison.groups(sweep):
        value = g.value("x10", "goodput_per_s")
        offered = np.mean([cell.facts.offered_rate_per_s for cell in g.cells])
        assert value.interval is not None
        assert value.interval[1] <= offered * 1.05


def test_pairs_are_of_the_same_requests(sweep: SweepResult) -> None:
    a, b = (group(sweep, name, "azure-code", 2.0) for name in ("distserve[affinity=low]", "vllm"))
    slo = a.judged("x5")[0].slo
    found = comparison.paired(a, b, "slo_attainment", slo)
    assert found is not None
    by_hand = [
        np.mean(x.view(slo).met.joint) - np.mean(y.view(slo).met.joint) for x, y in zip(a.cells, b.cells, strict=True)
    ]
    assert found.mean == pytest.approx(np.mean(by_hand))
    assert found.sign == "above"
    assert comparison.wording(found, better="above") == "better"
    assert comparison.wording(found, better="below") == "worse"
    other = group(sweep, "vllm", "azure-code", 4.0)
    assert comparison.paired(a, other, "ttft", slo) is None


def test_the_rate_that_holds_is_the_last_before_the_first_miss(sweep: SweepResult) -> None:
    row = [g for g in comparison.groups(sweep) if g.system == "vllm" and g.place.workload == "azure-code"]
    shares = {g.place.rate_per_s: g.value("x5", "slo_attainment").value or 0 for g in row}
    found = comparison.holding(row, "x5")
    assert found.fails == min(rate for rate, share in shares.items() if share < 0.9)
    assert found.holds == max(rate for rate, share in shares.items() if rate < found.fails)
    assert comparison.holding(row, "x5", target=0.0).fails is None
    hopeless = comparison.holding(row, "x5", target=1.01)
    assert (hopeless.holds, hopeless.fails, hopeless.verdict) == (None, 1.0, "fails")


def test_the_planning_slo_is_the_middle_one_or_the_one_told(sweep: SweepResult, build: Build) -> None:
    assert comparison.planning_label(sweep) == "x5"
    told = build(rates=(1.0,), seeds=(0,), count=30)
    path = told.folder / "resolved.json"
    slo = told.cells[0].judged[2].slo.model_dump_json()
    path.write_text(path.read_text().replace('"plan": null', f'"plan": {slo}'))
    assert comparison.planning_label(told) == "x10"


def test_the_table_shows_systems_bests_and_verdicts(sweep: SweepResult) -> None:
    text = printed(sweep)
    assert "distserve[affinity=low]" in text
    assert "Highest swept rate that holds 90 %" in text
    assert "better" in text
    row = next(line for line in text.splitlines() if line.lstrip().startswith("1  vllm"))
    value = group(sweep, "vllm", "azure-code", 1.0).value("x5", "slo_attainment")
    assert notation.span("slo_attainment", value) in row


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_log_file_folds_nothing_and_a_terminal_overflows_nothing(sweep: SweepResult, width: int) -> None:
    assert "…" not in printed(sweep, width)
    assert "distserve[affinity=low]" in printed(sweep, width)
    lines = printed(sweep, width, terminal=True).splitlines()
    assert max(map(len, lines)) <= width


def test_one_system_one_rate_and_a_replay_print_too(build: Build) -> None:
    result = build(rates=(None,), seeds=(0,), count=50)
    text = printed(result)
    assert "replay" in text
    assert "Highest swept rate" not in text
    alone = replace(result, cells=tuple(cell for cell in result.cells if cell.axes.system == "vllm"))
    assert "Against" not in printed(alone)
    assert printed(replace(result, cells=())) == ""


def test_failed_cells_are_not_hidden(sweep: SweepResult) -> None:
    failure = Failure("f", Path("f"), sweep.cells[0].axes, "ValueError: no", "Traceback")
    assert "1 cell failed" in printed(replace(sweep, failed=(failure,)))


def test_capacities_that_were_searched_have_their_own_table(build: Build) -> None:
    result = searched(build(rates=(3.0,), seeds=(0, 1), count=40))
    text = printed(result)
    assert "capacity@90" in text
    assert "3.05? [" in text
    group = comparison.groups(result)[0]
    assert group.place.rate_per_s is None, "seeds that found different rates are still repeats of one thing"
    low, high = group.value("x5", "capacity@90").interval or (0.0, 0.0)
    assert low <= 3.0
    assert high >= 3.2, "no surer than the brackets"


def test_names_with_brackets_are_not_taken_for_markup(build: Build) -> None:
    result = build(rates=(None,), seeds=(0,), count=50)
    cells = tuple(
        replace(c, axes=replace(c.axes, workload="trace[arrivals=replay]"))
        for c in result.cells[:1] + result.cells[2:3]
    )
    text = printed(replace(result, cells=cells))
    assert text.count("trace[arrivals=replay]") == 3


def searched(result: SweepResult) -> SweepResult:
    """The cells as a capacity search leaves them: one SLO each, the rate found, its bracket and verdict."""
    cells = []
    for cell in result.cells:
        judged = cell.judged[1]
        one = replace(
            judged,
            metrics=judged.metrics | {"capacity@90": 3.0 + cell.axes.seed / 10},
            intervals=judged.intervals | {"capacity@90": (3.0, 3.2)},
            flags=judged.flags | {"capacity@90": "undetermined at 40 requests"},
        )
        axes = replace(cell.axes, rate_per_s=3.0 + cell.axes.seed / 10)
        cells.append(replace(cell, axes=axes, judged=(one,)))
    return replace(result, cells=tuple(cells))


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("slo_attainment", 0.90345, "90.3"),
        ("slo_attainment", 1.0, "100"),
        ("slo_attainment", 0.99996, "99.9"),
        ("slo_attainment", 0.0, "0.0"),
        ("ttft_p50_s", 0.01234, "12.3 ms"),
        ("ttft_p50_s", 0.9999, "1 s"),
        ("ttft_p50_s", 123.4, "123 s"),
        ("e2e_mean_s", 4321.0, "4320 s"),
        ("throughput_tokens_per_s", 12345.0, "12.3k"),
        ("throughput_tokens_per_s", 1234567.0, "1.23M"),
        ("throughput_tokens_per_s", 9876.0, "9880"),
        ("cost_usd_per_million_tokens", 0.1234, "0.123"),
        ("goodput_per_s", None, "-"),
    ],
)
def test_numbers_are_written_with_their_unit(column: str, value: float | None, text: str) -> None:
    assert notation.quantity(column, value) == text


def test_a_span_holds_value_and_interval() -> None:
    assert notation.span("slo_attainment", Value(0.9, (0.8, 0.95))) == "90.0 80.0–95.0"
    assert notation.span("slo_attainment", Value(0.9)) == "90.0"
    assert notation.span("slo_attainment", Value(None)) == "-"
