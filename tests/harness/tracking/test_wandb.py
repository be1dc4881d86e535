from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.result import SweepResult
from harness.sweep.sweep import Wandb
from harness.tracking import Untracked, open_tracker
from harness.tracking import wandb as tracking
from harness.tracking.wandb_sweep import write_wandb_sweep

pytest.importorskip("wandb")

Build = Callable[..., SweepResult]
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


@pytest.fixture
def small(build: Build) -> SweepResult:
    return build(rates=(2.0,), seeds=(0, 1), count=60)


def inspect(run: Path) -> dict[str, Any]:
    """A finished offline run, read by wandb's own reader of its transaction logs."""
    wandb = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [wandb, "leet", "inspect", "--json", str(run)], capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, Any] = {"config": {}, "summary": {}, "exit": None, "history": {}}
    for record in map(json.loads, done.stdout.splitlines()):
        content = record.get(record["type"], {})
        if record["type"] == "run":
            found |= {key: value for key, value in content.items() if key != "config"}
            found["config"] = content["config"]["update"]
        elif record["type"] == "summary":
            found["summary"] |= content["update"]
        elif record["type"] == "history":
            found["history"] |= content.get("item", content)
        elif record["type"] == "exit":
            found["exit"] = content.get("exit_code", 0)
    return found


def offline_runs(folder: Path) -> dict[str, Path]:
    return {path.name.split("-", 3)[3]: path for path in sorted((folder / "wandb").glob("offline-run-*"))}


def track(result: SweepResult, figures: list[Path] | None = None, mode: str = "offline") -> None:
    tracker = open_tracker(Wandb(mode=mode, project="tests", tags=("made-up",)), result.folder, result.name)  # type: ignore[arg-type]
    tracker.cell_finished(result.cells[0])
    tracker.sweep_finished(result, figures or [])
    tracker.close()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, make: Build) -> SweepResult:
    """A sweep that has been tracked, with a picture, and without a warning."""
    result = make(tmp_path_factory.mktemp("tracked"), rates=(2.0,), seeds=(0, 1), count=60)
    picture = result.folder / "figures" / "throughput.png"
    picture.parent.mkdir()
    picture.write_bytes(PIXEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        track(result, [picture])
    return result


def test_offline_runs_read_back_what_the_cells_say(tracked: SweepResult) -> None:
    small = tracked
    runs = offline_runs(small.folder)
    assert len(runs) == len(small.cells) + 1
    groups = set()
    for cell in small.cells[:2]:
        run = inspect(runs[tracking.run_id(cell.folder, cell.id)])
        assert run["job_type"] == cell.axes.family
        assert run["project"] == "tests"
        assert run["exit"] == 0
        assert run["config"]["rate_per_s"] == cell.axes.rate_per_s
        assert run["config"]["fact/workload_hash"] == cell.facts.workload_hash
        groups.add(run["run_group"])
        for judged in cell.judged:
            for name, value in judged.metrics.items():
                if value is not None:
                    assert run["summary"][f"{judged.label}/{name}"] == pytest.approx(value, rel=1e-12)
    assert len(groups) == 1
    assert next(iter(groups)).startswith("made-up-")


def test_the_sweep_has_a_run_with_table_figures_and_findings(tracked: SweepResult) -> None:
    small = tracked
    (name,) = [name for name in offline_runs(small.folder) if name.startswith("sweep-")]
    run = inspect(offline_runs(small.folder)[name])
    assert run["job_type"] == "summary"
    assert run["exit"] == 0
    assert any(key.startswith("cells") for key in run["history"])
    assert len(list(offline_runs(small.folder)[name].glob("files/media/images/figures/*.png"))) == 1
    assert run["summary"]["findings/0"].startswith("azure-code: ")
    tables = list(offline_runs(small.folder)[name].glob("files/media/table/*.json"))
    content = json.loads(tables[0].read_text())
    assert len(content["data"]) == len(small.cells) * 3
    assert content["data"][0][content["columns"].index("system")] == small.cells[0].axes.system


def test_what_is_tracked_is_not_tracked_again_but_a_new_summary_is(small: SweepResult) -> None:
    track(small)
    before = set(offline_runs(small.folder))
    started = time.perf_counter()
    track(small)
    assert time.perf_counter() - started < 0.5, "nothing to do must not start a process"
    assert set(offline_runs(small.folder)) == before
    summary = small.cells[0].folder / "summary.json"
    summary.write_text(summary.read_text() + "\n")
    track(small)
    assert len(offline_runs(small.folder)) == len(before) + 2


def test_telling_of_a_cell_returns_at_once(small: SweepResult) -> None:
    tracker = open_tracker(Wandb(), small.folder, small.name)
    started = time.perf_counter()
    for cell in small.cells:
        tracker.cell_finished(cell)
    assert time.perf_counter() - started < 0.5
    tracker.close()


def test_a_worker_that_dies_warns_once_and_harms_nothing(small: SweepResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.warns(RuntimeWarning, match="W&B is not fully tracked") as caught:
        track(small)
    assert len(caught) == 1


def test_an_interpreter_that_is_not_there_warns_once(small: SweepResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.warns(RuntimeWarning, match="W&B is not fully tracked") as caught:
        track(small)
    assert len(caught) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_warns(small: SweepResult) -> None:
    small.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.warns(RuntimeWarning, match="W&B is not fully tracked"):
        track(small)


def test_a_broken_cell_does_not_stop_the_others(small: SweepResult) -> None:
    broken = small.cells[1]
    (broken.folder / "cell.json").write_text("{")
    with pytest.warns(RuntimeWarning, match="W&B is not fully tracked"):
        track(small)
    assert tracking.run_id(small.cells[2].folder, small.cells[2].id) in offline_runs(small.folder)


def test_online_without_a_login_falls_back_to_offline_and_says_so(
    small: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="online failed.*runs are kept offline") as caught:
        track(small, mode="online")
    assert len(caught) == 1
    assert len(offline_runs(small.folder)) == len(small.cells) + 1


def test_disabled_absent_and_unasked_track_nothing(small: SweepResult, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_tracker(None, small.folder, "x"), Untracked)
    assert isinstance(open_tracker(Wandb(mode="disabled"), small.folder, "x"), Untracked)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert isinstance(open_tracker(Wandb(mode="online"), small.folder, "x"), Untracked)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(RuntimeWarning, match=r"pip install 'thunderserve\[wandb\]'"):
        assert isinstance(open_tracker(Wandb(), small.folder, "x"), Untracked)
    track_nothing = Untracked()
    track_nothing.cell_finished(small.cells[0])
    track_nothing.sweep_finished(small, [])
    track_nothing.close()
    assert not (small.folder / "wandb").exists()


def test_importing_the_harness_does_not_import_wandb() -> None:
    code = "import sys, harness.tracking, harness.tracking.wandb; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_grid_is_written_for_wandbs_own_agents(tmp_path: Path) -> None:
    systems = [
        {"name": "vllm", "label": "", "options": {}},
        {"name": "distserve", "label": "d", "options": {"affinity": "low"}},
    ]
    sweep = {"name": "s", "systems": systems, "workloads": [{"spec": "azure-code"}], "rate": [1.0, 2.0], "seeds": [0]}
    (tmp_path / "resolved.json").write_text(json.dumps({"sweep": sweep}))
    path = write_wandb_sweep(tmp_path, "p")
    assert path is not None
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(path.read_text())
    assert content["method"] == "grid"
    assert content["parameters"]["rate"] == {"values": [1.0, 2.0]}
    assert content["parameters"]["systems"]["values"][0] == "vllm"
    assert json.loads(content["parameters"]["systems"]["values"][1]) == {
        "name": "distserve",
        "label": "d",
        "affinity": "low",
    }
    assert write_wandb_sweep(tmp_path / "nowhere", "p") is None


def test_no_run_speaks_of_the_machine(tracked: SweepResult) -> None:
    for run in offline_runs(tracked.folder).values():
        assert not (run / "files" / "requirements.txt").exists()
        assert not (run / "files" / "wandb-metadata.json").exists()
