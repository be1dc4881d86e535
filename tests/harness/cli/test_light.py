"""Help and validation are quick, and import nothing heavy."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    "torch",
    "pandas",
    "matplotlib",
    "seaborn",
    "wandb",
    "numba",
    "llvmlite",
    "scipy",
    "duckdb",
    "pyarrow",
    "transformers",
}
HELP_CPU_S = 0.3

PROBE = """
import sys, json
sys.argv = ["harness", *json.loads(sys.argv[1])]
from harness.cli.main import main
try:
    main()
except SystemExit as end:
    code = end.code or 0
print(json.dumps({"code": code, "modules": sorted({name.partition(".")[0] for name in sys.modules})}), file=sys.stderr)
"""


def imported_by(*arguments: str) -> tuple[int, set[str]]:
    command = [sys.executable, "-c", PROBE, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stderr.splitlines()[-1])
    return found["code"], set(found["modules"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("validate", "quickstart"),
        ("validate", "tests/harness/sweep/broken/unknown_option.yaml"),
        ("schema", "sweep"),
        ("ls", "clusters"),
        ("ls", "systems"),
        ("init", "--list"),
    ],
)
def test_nothing_heavy_is_imported(arguments: tuple[str, ...]) -> None:
    code, modules = imported_by(*arguments)
    assert code == (2 if "broken" in arguments[-1] else 0)
    assert not modules & HEAVY


def test_help_does_without_numpy_and_pydantic() -> None:
    assert not imported_by("--help")[1] & {"numpy", "pydantic", "ruamel"}


def test_help_takes_less_than_a_third_of_a_second_of_cpu() -> None:
    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    took = []
    for _ in range(3):
        before = spent()
        command = [sys.executable, "-m", "harness.cli.main", "--help"]
        subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        took.append(spent() - before)
    assert min(took) < HELP_CPU_S
