"""The cells of a sweep, and what their ids depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.sweep import prepared
from harness.sweep import digest
from harness.sweep.cells import Job, label
from harness.sweep.resolve import resolve
from harness.sweep.source import read
from thunderserve.spec.slo import Slo

SYSTEM = Path(__file__).resolve().parents[3] / "harness" / "templates" / "system.py"
SWEEP = """\
name: grid
systems: [./system.py, {name: ./system.py, cards: 4}]
clusters: [inhouse-8xa100]
models: [llama-7b]
workloads: [fixed-512-128, {label: own, lengths: {kind: constant, prompt: 10, output: 5}}]
rate: [1, 2]
slo: {scale: [2, 5, 10]}
requests: 20
seeds: [0, 1, 2]
"""


def jobs(folder: Path, *overrides: str, system: str = SYSTEM.read_text()) -> list[Job]:
    (folder / "system.py").write_text(system)
    path = folder / "grid.yaml"
    path.write_text(SWEEP)
    return prepared(resolve(read(path, overrides)))[0]


def ids(folder: Path, *overrides: str, system: str = SYSTEM.read_text()) -> list[str]:
    return [job.id for job in jobs(folder, *overrides, system=system)]


def test_the_grid_is_the_product_of_the_axes(tmp_path: Path) -> None:
    found = jobs(tmp_path)
    assert len(found) == 2 * 2 * 2 * 3
    assert len({job.id for job in found}) == len(found)
    assert {job.cell.axes.system for job in found} == {"system", "system[cards=4]"}
    assert {job.cell.axes.family for job in found} == {"system"}
    assert {job.cell.axes.workload for job in found} == {"fixed-512-128", "own"}


def test_a_system_runs_on_the_backends_that_it_names(tmp_path: Path) -> None:
    systems = "systems=[{name: ./system.py, backends: [simulated]}, {name: ./system.py, cards: 4}]"
    backend = "backend=[simulated, {name: openai, label: mine, url: 'http://127.0.0.1:9'}]"
    found = jobs(tmp_path, systems, backend)
    assert {(job.cell.axes.system, job.cell.axes.backend) for job in found} == {
        ("system", "simulated"), ("system[cards=4]", "simulated"), ("system[cards=4]", "mine")
    }  # fmt: skip
    alone = [job.id for job in jobs(tmp_path) if job.cell.axes.system == "system"]
    assert [job.id for job in found if job.cell.axes.system == "system"] == alone


def test_ids_repeat(tmp_path: Path) -> None:
    assert ids(tmp_path) == ids(tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "metrics=[ttft]",
        "figures=[throughput]",
        "slo={scale: [3, 5, 12]}",
        "wandb.mode=offline",
        "name=other",
        "description=other",
    ],
)
def test_what_does_not_touch_the_records_leaves_ids_alone(tmp_path: Path, override: str) -> None:
    assert ids(tmp_path, override) == ids(tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "slo={scale: [2, 4, 10]}",
        "attainment=0.99",
        "requests=21",
        "rate=[1.5, 3]",
        "seeds=[3, 4, 5]",
        "models=[llama-13b]",
        "clusters=[homogeneous-8xh100]",
        "gpu_catalogue=paper",
        "arrivals=constant",
    ],
)
def test_what_decides_the_records_changes_every_id(tmp_path: Path, override: str) -> None:
    assert not set(ids(tmp_path, override)) & set(ids(tmp_path))


def test_the_code_of_a_system_of_ones_own_is_part_of_its_ids(tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    assert not set(ids(tmp_path)) & set(ids(changed, system=SYSTEM.read_text() + "\nCHANGED = True\n"))


def test_the_code_version_is_part_of_every_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(tmp_path)
    monkeypatch.setattr(digest, "code_version", lambda parts: "another")
    assert not set(before) & set(ids(tmp_path))


def test_the_code_version_sees_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part").mkdir()
    source = tmp_path / "part" / "a.py"
    monkeypatch.setattr(digest, "ROOT", tmp_path)
    seen = set()
    for text in ("x = 1\n", "x = 2\n", "x = 1 \n"):
        source.write_text(text)
        digest.code_version.cache_clear()
        seen.add(digest.code_version(("part",)))
    digest.code_version.cache_clear()
    assert len(seen) == 3


def test_seeds_share_a_plan_and_systems_a_schedule(tmp_path: Path) -> None:
    found = jobs(tmp_path)
    by_plan: dict[str, set[int]] = {}
    by_schedule: dict[str, set[str]] = {}
    for job in found:
        by_plan.setdefault(job.plan_key(job.schedule.planned_rate_per_s), set()).add(job.cell.seed)
        by_schedule.setdefault(job.schedule.digest, set()).add(job.cell.system.shown)
    assert len(by_plan) == 8
    assert all(seeds == {0, 1, 2} for seeds in by_plan.values())
    assert len(by_schedule) == 12
    assert all(systems == {"system", "system[cards=4]"} for systems in by_schedule.values())


def test_a_replay_runs_once_and_needs_no_rate(tmp_path: Path) -> None:
    lines = "".join(f"{0.5 * i},{10 + i},{5}\n" for i in range(40))
    (tmp_path / "trace.csv").write_text("arrival,prompt,output\n" + lines)
    columns = "{arrival: arrival, prompt: prompt, output: output}"
    replay = f"workloads=[{{path: trace.csv, columns: {columns}, arrivals: replay, label: recorded}}]"
    found = jobs(tmp_path, replay, "rate=null", "requests=null")
    assert [(job.cell.seed, job.cell.requests, job.cell.rate_per_s) for job in found] == [(0, 40, None)] * 2
    assert found[0].schedule.planned_rate_per_s == pytest.approx(40 / 19.5)
    faster = jobs(tmp_path, replay, "rate=[8]", "requests=null")
    assert faster[0].schedule.offered_rate_per_s == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("slo", "words"),
    [
        (Slo(scale=5), "x5"),
        (Slo(scale=2.5, of=("ttft", "tpot")), "x2.5 of ttft, tpot"),
        (Slo(ttft_s=0.5, tpot_s=0.05), "ttft 500 ms, tpot 50 ms"),
        (Slo(e2e_s=12), "e2e 12 s"),
    ],
)
def test_an_slo_has_a_short_name(slo: Slo, words: str) -> None:
    assert label(slo) == words
