"""What cells are expected to take, by their backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.expected import START_S, expected_s
from harness.run.sweep import prepared
from harness.sweep.resolve import resolve
from harness.sweep.source import read

SWEEP = """
name: both
backend: [engine, simulated]
systems: [vllm]
clusters: [local-2]
models: [smollm2-135m]
workloads: [azure-conv]
rate: 2
requests: 30
seeds: [0]
slo: {ttft: 4 s, tpot: 300 ms}
"""


def test_a_real_cell_takes_as_long_as_its_requests(tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(SWEEP)
    jobs, _ = prepared(resolve(read(tmp_path / "both.yaml")))
    real, simulated = sorted(map(expected_s, jobs), reverse=True)
    assert real - simulated == pytest.approx(START_S + 15)
    assert simulated < 1
