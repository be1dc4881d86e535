"""The comparison of simulated and real cells, on records whose figures are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import fidelity
from harness.fidelity import MEASURES, Pair
from thunderserve.serving.records import Records, Status


def records(first: list[float], finish: list[float]) -> Records:
    """Requests of 10 prompt and 3 output tokens that arrive at 0."""
    count = len(first)
    whole, nothing = np.full(count, 10), np.full(count, np.nan)
    return Records(
        np.zeros(count), whole, np.full(count, 3), nothing, np.array(first), nothing, nothing, np.array(finish),
        np.zeros(count, np.int32), np.zeros(count, np.int32), np.zeros(count, np.int32),
        np.full(count, Status.FINISHED, np.int8),
    )  # fmt: skip


def seen(one: Records) -> dict[str, float]:
    return {name: measure(one) for name, measure in MEASURES.items()}


PAIRS = [
    Pair("a[b=c]", "w", 1.0, 0, seen(records([1, 3], [3, 5])), seen(records([1, 1], [3, 3])), {}),
    Pair("a", "w", 2.0, 0, seen(records([1, 1], [5, 5])), seen(records([2, 2], [4, 4])), {"prefill": 1.125}),
]


def test_measures_are_what_their_names_say() -> None:
    found = seen(records([1, 3], [3, 7]))
    assert found["mean TTFT"] == 2
    assert found["mean TPOT"] == (1 + 2) / 2
    assert found["mean E2E"] == 5
    assert found["tokens/s"] == 26 / 7
    assert found["p99 TTFT"] == pytest.approx(1 + 0.99 * 2)


def test_errors_are_relative_to_what_is_real() -> None:
    assert [pair.error("mean TTFT") for pair in PAIRS] == [1.0, -0.5]
    summary = {one.name: one for one in fidelity.summaries(PAIRS)}
    assert summary["mean TTFT"][1:] == (0.75, 1.0, 0.25)
    assert summary["mean TPOT"].worst == 1.0
    assert summary["tokens/s"].bias == pytest.approx(((3 / 5 - 1) + (4 / 5 - 1)) / 2)


def test_a_long_name_is_broken_before_a_number_is(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    fidelity.print_fidelity(
        [PAIRS[1]._replace(system="thunderserve[codec=16bit,transfer=layerwise]")], Console(width=80)
    )
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("req/s", "TTFT, s", "TPOT, ms", "-50 %", "+12 %"))
    assert "…" not in printed


def test_table_and_figure_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    fidelity.print_fidelity(PAIRS, Console(width=80))
    printed = capsys.readouterr().out
    assert "+100 %" in printed
    assert "a[b=c]" in printed
    assert "…" not in printed
    assert "prefill steps +12.5 % (+12 to +12). Far" in " ".join(printed.split())
    lines = fidelity.as_csv(PAIRS).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("a[b=c],w,1.0,0,2,1,1")
    assert [line.split(",")[-2:] for line in lines[1:]] == [["", ""], ["1.125", ""]]
    pytest.importorskip("matplotlib")
    drawn = fidelity.draw(PAIRS, tmp_path / "fidelity", "origin")
    assert [path.stat().st_size > 1000 for path in drawn] == [True, True, True]
