"""The commands, as scripts see them: output, JSON, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli

ROOT = Path(__file__).resolve().parents[3]
SYSTEM = ROOT / "harness" / "templates" / "system.py"
INSTANT = ROOT / "tests" / "harness" / "run" / "instant.py"
SWEEP = f"""\
name: tiny
backend: {INSTANT}:Instant
systems: [{SYSTEM}]
clusters: [inhouse-8xa100]
models: [llama-7b]
workloads: [fixed-512-128]
rate: [2, 4]
slo: {{scale: [2, 5]}}
requests: 30
seeds: [0, 1]
metrics: [slo_attainment, ttft]
"""

Harness = Callable[..., tuple[int, str, str]]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """``harness("run", "tiny.yaml")``: exit code, standard output, standard error; in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SWEEP)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def read(out: str) -> Any:
    return json.loads(out)


def run_tiny(harness: Harness, *more: str) -> dict[str, Any]:
    code, out, _ = harness("run", "tiny.yaml", "--jobs", "1", "--no-figures", "--json", *more)
    found: dict[str, Any] = read(out)
    assert found["exit_code"] == code
    return found


def test_help_lists_the_commands_and_the_exit_codes(harness: Harness) -> None:
    code, out, _ = harness("--help")
    assert code == 0
    commands = [
        "run",
        "init",
        "validate",
        "ls",
        "status",
        "show",
        "plot",
        "report",
        "check",
        "schema",
        "bench",
        "trace",
    ]
    assert all(f"\n  {command} " in out for command in commands)
    assert "130 interrupted" in out


def test_a_dry_run_says_what_would_be_done_and_does_nothing(harness: Harness, tmp_path: Path) -> None:
    code, out, _ = harness("run", "tiny.yaml", "--dry-run", "--json")
    outlook = read(out)
    assert code == 0
    assert (outlook["cells"], outlook["to_serve"], outlook["plans_to_make"]) == (4, 4, 2)
    assert outlook["requests_to_serve"] == 120
    assert outlook["seconds"] > 0
    assert outlook["clusters"][0]["usd_per_hour"] == pytest.approx(14.024)
    assert not (tmp_path / "results").exists()
    assert "14.02 USD/h" in harness("run", "tiny.yaml", "--dry-run")[1]


def test_a_run_a_second_run_and_its_status(harness: Harness) -> None:
    first = run_tiny(harness)
    assert (first["done"], first["failed"], first["exit_code"]) == (4, 0, 0)
    assert run_tiny(harness)["found"] == 4
    code, out, _ = harness("status", "results/tiny", "--json")
    state = read(out)
    assert code == 0
    assert (state["cells"], state["done"], state["missing"]) == (4, 4, 0)
    assert len(state["runs"]) == 2
    assert "4 of 4 done" in harness("ls", "results")[1]


def test_the_comparison_is_printed(harness: Harness) -> None:
    code, out, err = harness("run", "tiny.yaml", "--jobs", "1", "--no-figures")
    assert code == 0
    assert "fixed-512-128" in out
    assert "4 of 4 cells done, 0 failed: results/tiny" in out
    assert "4/4 done" in err


def test_failed_cells_give_exit_code_1(harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "burning").touch()
    monkeypatch.setenv("FAIL_WHILE", str(tmp_path / "burning"))
    found = run_tiny(harness, f"backend={INSTANT}:Failing")
    assert (found["done"], found["failed"], found["exit_code"]) == (2, 2, 1)
    failed = found["failures"][0]["id"]
    code, out, _ = harness("show", failed[:8])
    assert code == 0
    assert "the backend has caught fire" in out


def test_show_tells_of_a_cell(harness: Harness) -> None:
    run_tiny(harness)
    cell = read(harness("status", "results/tiny", "--json")[1])["done_ids"][0]
    code, out, _ = harness("show", cell[:10], "--json")
    content = read(out)
    assert code == 0
    assert content["id"] == cell
    assert content["plan"]["system"] == "mine"
    assert content["summary"]["judged"][1]["metrics"]["slo_attainment"] == 1.0
    assert "slo_attainment" in harness("show", f"results/tiny/cells/{cell}")[1]
    assert harness("show", "zzz")[0] == 2


def test_bad_input_gives_exit_code_2_and_one_line(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SWEEP.replace("seeds:", "seed:"))
    for command in ("run", "validate"):
        code, out, err = harness(command, "tiny.yaml")
        assert (code, out) == (2, "")
        assert err == "error: tiny.yaml:10: seed: unknown key; did you mean 'seeds'?\n"
    code, out, _ = harness("validate", "tiny.yaml", "--json")
    assert code == 2
    assert {name: read(out)[name] for name in ("valid", "line", "key")} == {"valid": False, "line": 10, "key": "seed"}
    assert not (tmp_path / "results").exists()
    assert harness("run", "tinny.yaml")[2] == "error: tinny.yaml: no such file; did you mean 'tiny.yaml'?\n"
    assert harness("run", "--no-such-option")[0] == 2
    assert harness("status", "nowhere")[0] == 2


def test_check_passes_what_is_whole(harness: Harness) -> None:
    run_tiny(harness)
    code, out, _ = harness("check", "results/tiny", "--rerun", "2", "--json")
    found = read(out)
    assert [item["check"] for item in found["checks"] if not item["passed"]] == []
    assert code == 0
    assert len(found["checks"]) == 6


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ("cells/*/requests.parquet", "untampered cells"),
        ("cells/*/plan.json", "untampered cells"),
        ("cells/*/summary.json", "manifest"),
        ("cells/*/cell.json", "manifest"),
        ("schedules/*.parquet", "untampered schedules"),
        ("cells/*", "complete"),
    ],
)
def test_check_finds_what_was_touched(harness: Harness, tmp_path: Path, part: str, check: str) -> None:
    run_tiny(harness)
    victim = next((tmp_path / "results" / "tiny").glob(part))
    if victim.is_dir():
        victim.rename(tmp_path / "away")
    elif victim.suffix == ".json":
        victim.write_text(victim.read_text().replace("1.0", "0.9").replace("4.0", "5.0").replace("mine", "yours"))
    else:
        victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    code, out, _ = harness("check", "results/tiny", "--json")
    assert code == 3
    assert check in [item["check"] for item in read(out)["checks"] if not item["passed"]]


def test_check_finds_a_forged_summary_with_a_forged_manifest(harness: Harness, tmp_path: Path) -> None:
    from harness.store import atomic, manifest
    from harness.store.layout import Store

    run_tiny(harness)
    store = Store(tmp_path / "results" / "tiny")
    victim = next(store.folder.glob("cells/*/summary.json"))
    content = atomic.read_json(victim)
    content["judged"][0]["metrics"]["slo_attainment"] = 0.5
    atomic.write_json(victim, content)
    noted = atomic.read_json(store.manifest)
    noted["cells"] = manifest.cell_digests(store, list(noted["cells"]))
    atomic.write_json(store.manifest, noted)
    code, out, _ = harness("check", "results/tiny", "--rerun", "0", "--json")
    assert code == 3
    assert [item["check"] for item in read(out)["checks"] if not item["passed"]] == ["judged again"]


def test_init_writes_templates_that_are_valid(harness: Harness, tmp_path: Path) -> None:
    code, out, _ = harness("init", "--list")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    assert {"quickstart", "capacity", "replay", "prices", "system", "gpu", "cluster", "model", "workload"} == set(names)
    assert harness("init")[1] == "quickstart.yaml\n"
    assert harness("validate", "quickstart.yaml")[0] == 0
    assert harness("init")[0] == 2
    assert harness("init", "--force")[0] == 0
    for name in ("capacity", "prices"):
        assert harness("init", "-t", name)[0] == 0
        assert harness("validate", f"{name}.yaml")[0] == 0
    harness("init", "-t", "system")
    for kind in ("gpu", "model", "workload"):
        harness("init", f"configs/{kind}s/my-{kind}.yaml", "-t", kind)
    harness("init", "-t", "cluster")
    own = ["systems=[./system.py]", "clusters=[./cluster.yaml]", "models=[my-model]", "workloads=[my-workload]"]
    assert harness("validate", "quickstart.yaml", *own)[0] == 0
    assert "my-gpu" in harness("ls", "gpus")[1]


@pytest.mark.parametrize("kind", ["systems", "clusters", "gpus", "models", "workloads", "sweeps", "metrics", "figures"])
def test_ls_has_a_line_for_each(harness: Harness, kind: str) -> None:
    entries = read(harness("ls", kind, "--json")[1])
    assert entries
    assert all(entry["name"] and entry["summary"] for entry in entries)
    assert len(harness("ls", kind)[1].splitlines()) == len(entries)


def test_a_wrong_kind_is_answered_with_the_nearest(harness: Harness) -> None:
    assert "did you mean 'systems'?" in harness("ls", "system")[2]
    assert "did you mean 'sweep'?" in harness("schema", "sweeps")[2]
    assert "did you mean 'overhead'?" in harness("bench", "overheads")[2]


def test_a_bench_gets_its_own_options(harness: Harness) -> None:
    code, out, _ = harness("bench", "overhead", "--cells", "2", "--requests", "20")
    assert code == 0
    assert out.startswith("2 cells of 20 requests")
