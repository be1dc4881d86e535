"""A second run does nothing; other SLOs and metrics are judged from saved requests; failures are kept and retried."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run import planning
from harness.run.drive import Options, Prepared, Run, drive
from harness.run.progress import Silent
from harness.store import load

Start = Callable[..., Run]
Steady = Callable[[Path], dict[str, bytes]]


def served_at(run: Run) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in run.store.folder.glob("cells/*/requests.parquet")}


def test_a_run_serves_every_cell_once(start: Start) -> None:
    run = start()
    assert (run.tally.total, run.tally.done, run.tally.failed) == (8, 8, 0)
    assert len(served_at(run)) == 8
    again = start()
    assert (again.tally.found, again.tally.done) == (8, 0)
    assert served_at(again) == served_at(run)


def test_two_runs_give_the_same_bytes(start: Start, steady: Steady) -> None:
    first, second = start(results="a"), start(results="b")
    assert steady(first.store.folder) == steady(second.store.folder)


def test_worker_processes_give_the_bytes_of_one_process(start: Start, steady: Steady) -> None:
    assert steady(start(results="a").store.folder) == steady(start(results="b", workers=2).store.folder)


def test_other_slos_and_metrics_are_judged_without_serving(start: Start, steady: Steady) -> None:
    before = served_at(start("slo={scale: [2, 5, 10], plan: 5}"))
    overrides = ("slo={scale: [3, 5], plan: 5}", "metrics=[slo_attainment, goodput]")
    again = start(*overrides)
    assert (again.tally.found, again.tally.done) == (0, 8)
    assert served_at(again) == before
    assert [judged.label for judged in load.sweep(again.store.folder).cells[0].judged] == ["x3", "x5"]
    assert steady(again.store.folder) == steady(start(*overrides, results="fresh").store.folder)


@pytest.mark.parametrize("name", ["cell.json", "requests.parquet", "plan.json"])
def test_a_damaged_cell_is_served_again(start: Start, steady: Steady, name: str) -> None:
    run = start()
    whole = steady(run.store.folder)
    victim = next(run.store.folder.glob(f"cells/*/{name}"))
    victim.write_bytes(victim.read_bytes()[:-20])
    again = start()
    assert (again.tally.found, again.tally.done) == (7, 1)
    assert steady(run.store.folder) == whole


def test_a_lost_summary_is_judged_again(start: Start, steady: Steady) -> None:
    run = start()
    whole = steady(run.store.folder)
    next(run.store.folder.glob("cells/*/summary.json")).unlink()
    assert start().tally.done == 1
    assert steady(run.store.folder) == whole


def test_all_systems_are_fed_the_same_requests(start: Start) -> None:
    cells = start().finish.result.cells  # type: ignore[union-attr]
    by_place: dict[tuple[float | None, int], set[str]] = {}
    for cell in cells:
        by_place.setdefault((cell.axes.rate_per_s, cell.axes.seed), set()).add(cell.facts.workload_hash)
    assert len(by_place) == 4
    assert all(len(hashes) == 1 for hashes in by_place.values())
    assert len(set.union(*by_place.values())) == 4


def test_failures_are_kept_and_the_rest_goes_on(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steady: Steady
) -> None:
    burning = tmp_path / "burning"
    burning.touch()
    monkeypatch.setenv("FAIL_WHILE", str(burning))
    backend = f"backend={Path(__file__).parent / 'instant.py'}:Failing"
    run = start(backend)
    assert (run.tally.done, run.tally.failed) == (4, 4)
    failures = [json.loads(path.read_text()) for path in run.store.folder.glob("failed/*/failure.json")]
    assert {failure["error"] for failure in failures} == {"RuntimeError: the backend has caught fire"}
    assert all("in serve" in failure["traceback"] for failure in failures)

    burning.unlink()
    assert start(backend).tally.failed == 4
    retried = start(backend, retry_failed=True)
    assert (retried.tally.found, retried.tally.done, retried.tally.failed) == (4, 4, 0)
    assert not list(run.store.folder.glob("failed/*"))
    assert {k for k in steady(run.store.folder) if k.startswith("cells")} == {
        k for k in steady(start(backend, results="fresh").store.folder) if k.startswith("cells")
    }


def test_a_worker_that_dies_fails_its_cell_alone(start: Start) -> None:
    run = start(f"backend={Path(__file__).parent / 'instant.py'}:Dying", workers=2)
    assert (run.tally.done, run.tally.failed) == (4, 4)
    assert {failure.error for failure in run.finish.result.failed} == {"the worker process died (exit code 9)"}  # type: ignore[union-attr]


def test_a_backend_that_loses_requests_is_found_out(start: Start) -> None:
    run = start(f"backend={Path(__file__).parent / 'instant.py'}:Losing")
    assert run.tally.failed == 8
    assert "39 records that are not those of the 40 requests" in run.finish.result.failed[0].error  # type: ignore[union-attr]


def test_a_plan_that_cannot_be_made_fails_its_cells(start: Start) -> None:
    run = start("models=[llama-2-70b]", "clusters=[cloud-8-a40-3090ti-5gbit]")
    assert (run.tally.done, run.tally.failed) == (4, 4)
    assert {failure.axes.system for failure in run.finish.result.failed} == {"wide"}  # type: ignore[union-attr]


def test_cells_of_another_sweep_do_not_mix(start: Start) -> None:
    start()
    run = start("requests=30")
    assert run.tally.done == 8
    result = load.sweep(run.store.folder)
    assert len(result.cells) == 8
    assert {cell.axes.requests for cell in result.cells} == {30}


def test_code_that_changes_under_a_run_is_not_passed_off_as_that_of_its_ids(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepared()
    monkeypatch.setattr(planning, "code_version", lambda parts: "edited meanwhile")
    run = drive(ready, Options(workers=1, pictures=False), Silent())
    assert run.tally.failed == 8
    assert "the source files have changed" in run.finish.result.failed[0].error  # type: ignore[union-attr]
