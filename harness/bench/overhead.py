"""``harness bench overhead``: what the harness itself costs a cell, with a backend that takes no time."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import typer

from harness.run.drive import Options, drive, prepare
from harness.run.progress import Silent
from harness.sweep.source import read
from thunderserve.backend import Deployment
from thunderserve.cost.source import CostSource
from thunderserve.serving.records import Records, Served, Status, empty_records
from thunderserve.spec.trace import Trace

SWEEP = """\
name: overhead
backend: harness.bench.overhead:Instant
systems: [{system}]
clusters: [inhouse-8xa100]
models: [llama-30b]
workloads: [azure-conv]
rate: [4]
slo: {{scale: [2, 5, 10]}}
requests: {requests}
seeds: {seeds}
"""


def instant(trace: Trace, *, late_s: float = 0.0) -> Records:
    """Every request prefilled in 10 ms and then 1 ms a token, ``late_s`` after it came."""
    first_s = trace.arrival_s + 0.01 + late_s
    return replace(
        empty_records(trace),
        prefill_start_s=trace.arrival_s + late_s,
        first_token_s=first_s,
        finish_s=first_s + 0.001 * (trace.output_tokens - 1),
        prefill_replica=np.zeros(len(trace), np.int32),
        decode_replica=np.zeros(len(trace), np.int32),
        status=np.full(len(trace), Status.FINISHED, np.int8),
    )


@dataclass
class Instant:
    """A ``Backend`` without a queue: what is left of a cell is the harness."""

    costs: CostSource
    name: str = "instant"

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:  # noqa: ARG002
        """Serve every request at once."""
        return Served(instant(trace))


def main(arguments: list[str]) -> int:
    """Run cells of nothing, and say what one of them takes."""
    parser = argparse.ArgumentParser(prog="harness bench overhead", description=__doc__)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--requests", type=int, default=2000)
    given = parser.parse_args(arguments)
    wall_s, cpu_s = measure(given.cells, given.requests)
    typer.echo(f"{given.cells} cells of {given.requests} requests, one process, seven metrics at three SLOs")
    typer.echo(f"  wall  {wall_s / given.cells * 1e3:.1f} ms a cell")
    typer.echo(f"  CPU   {cpu_s / given.cells * 1e3:.1f} ms a cell")
    return 0


def measure(cells: int, requests: int) -> tuple[float, float]:
    """Wall and CPU seconds of ``cells`` cells, start and end of the run included, imports not."""
    system = Path(__file__).resolve().parents[1] / "templates" / "system.py"
    with tempfile.TemporaryDirectory(prefix="harness-overhead-") as name:
        path = Path(name) / "overhead.yaml"
        for seeds in ([10**6], list(range(cells))):
            path.write_text(SWEEP.format(system=system, requests=requests, seeds=seeds), encoding="utf-8")
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            drive(prepare(read(path), Path(name) / f"{len(seeds)}"), Options(workers=1, pictures=False), Silent())
    return time.perf_counter() - wall_s, time.process_time() - cpu_s
