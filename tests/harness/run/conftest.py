from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run.drive import Options, Prepared, Run, drive, prepare
from harness.run.progress import Silent
from harness.sweep.source import read

HERE = Path(__file__).parent
SYSTEM = Path(__file__).resolve().parents[3] / "harness" / "templates" / "system.py"

SWEEP = f"""\
name: small
backend: {HERE / "instant.py"}:Instant
systems: [{SYSTEM}, {{name: {SYSTEM}, label: wide, cards: 4}}]
clusters: [inhouse-8xa100]
models: [llama-7b]
workloads: [{{label: short, lengths: {{kind: lognormal, prompt: {{mean: 100, cv: 1}}, output: {{mean: 20, cv: 1}}}}}}]
rate: [2, 4]
slo: {{scale: [2, 5, 10]}}
requests: 40
seeds: [0, 1]
metrics: [slo_attainment, throughput, ttft]
"""

Start = Callable[..., Run]


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture
def prepared(sweep_file: Path, tmp_path: Path) -> Callable[..., Prepared]:
    """``prepared("requests=5", results="other")``: the small sweep, made ready."""

    def make(*overrides: str, results: str = "results") -> Prepared:
        return prepare(read(sweep_file, overrides), tmp_path / results)

    return make


@pytest.fixture
def start(prepared: Callable[..., Prepared]) -> Start:
    """``start("requests=5", retry_failed=True)``: run the small sweep in this process."""

    def run(*overrides: str, results: str = "results", retry_failed: bool = False, workers: int = 1) -> Run:
        options = Options(workers=workers, retry_failed=retry_failed, pictures=False)
        return drive(prepared(*overrides, results=results), options, Silent())

    return run


def steady_files(folder: Path) -> dict[str, bytes]:
    """Every file of a results folder that must come out the same: all but the volatile ones."""
    volatile = ("manifest.json", "run.json", ".lock")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in volatile and not path.name.endswith(".run.json")
    }


@pytest.fixture
def steady() -> Callable[[Path], dict[str, bytes]]:
    return steady_files
