"""A run that is killed at random moments, and run again until it is done, leaves what an undisturbed run leaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
KILLS = 5
Steady = Callable[[Path], dict[str, bytes]]
Workers = Callable[[int], list[int]]


def command(sweep: Path, results: Path, *more: str) -> list[str]:
    backend = f"backend={Path(__file__).parent / 'instant.py'}:Slow"
    run = [sys.executable, "-m", "harness.cli.main", "run", str(sweep), backend, "seeds=[0,1,2,3,4,5]"]
    return [*run, "--results", str(results), "--no-figures", "--quiet", "--json", *more]


Begin = Callable[[list[str]], "subprocess.Popen[bytes]"]


@pytest.fixture(scope="session")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Starts a process on a copy of the code: a file that is edited meanwhile would make every cell a new one."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("thunderserve", "baselines", "harness", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))

    def start(arguments: list[str]) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(copy)}
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(arguments, cwd=copy, env=environment, stdout=nowhere, stderr=nowhere)

    return start


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find the workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_minus_nine_costs_only_the_cells_in_flight(
    begin: Begin, sweep_file: Path, tmp_path: Path, steady: Steady, workers_of: Workers, workers: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start = time.monotonic()
    assert begin(command(sweep_file, whole, "--jobs", str(workers))).wait() == 0
    undisturbed_s = time.monotonic() - start

    dice, counts = random.Random(workers), []
    for _ in range(KILLS):
        run = begin(command(sweep_file, broken, "--jobs", str(workers)))
        time.sleep(dice.uniform(0.2, 1.0) * undisturbed_s)
        orphans = workers_of(run.pid)
        run.send_signal(signal.SIGKILL)
        run.wait()
        counts.append(len(list(broken.glob("cells/[!.]*"))))
        deadline = time.monotonic() + 10
        while not all(gone(orphan) for orphan in orphans):
            assert time.monotonic() < deadline, "a worker has outlived its run"
            time.sleep(0.02)
    assert counts == sorted(counts), "a finished cell was lost"

    assert begin(command(sweep_file, broken, "--jobs", str(workers))).wait() == 0
    assert steady(broken) == steady(whole)


def test_interrupting_a_run_ends_with_130_and_keeps_what_is_done(
    begin: Begin, sweep_file: Path, tmp_path: Path, steady: Steady
) -> None:
    results = tmp_path / "results"
    run = begin(command(sweep_file, results, "--jobs", "2"))
    deadline = time.monotonic() + 60
    while len(list(results.glob("cells/[!.]*"))) < 3 and run.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=20) == 130
    assert 3 <= len(list(results.glob("cells/[!.]*"))) < 24
    assert (results / "manifest.json").is_file()
    assert begin(command(sweep_file, results, "--jobs", "1")).wait() == 0
    assert begin(command(sweep_file, tmp_path / "whole", "--jobs", "1")).wait() == 0
    assert steady(results) == steady(tmp_path / "whole")
