"""A small made-up sweep: two systems that queue, on the same requests, with saved records as a real run leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from harness import metrics
from harness.result import Axes, CellResult, Facts, Judged, SweepResult
from harness.store import requests
from thunderserve.serving.records import Records
from thunderserve.spec.slo import Latencies, Slo
from thunderserve.spec.trace import Trace

SCALES = (2.0, 5.0, 10.0)
COMMIT = "0123456789abcdef"
LENGTHS = {"azure-code": (7.3, 1.0, 3.0, 0.8), "azure-conv": (6.7, 1.0, 5.1, 0.7)}
SPEEDS = {"vllm": (9000.0, 0.024, 0.0), "distserve[affinity=low]": (12000.0, 0.020, 2e-5)}
"""Prefill tokens a second, seconds a token alone, seconds of KV transfer a token."""


def draw(workload: str, rate_per_s: float, seed: int, count: int) -> Trace:
    generator = np.random.default_rng([seed, sum(workload.encode())])
    prompt_mean, prompt_spread, output_mean, output_spread = LENGTHS[workload]
    return Trace(
        np.cumsum(generator.exponential(1 / rate_per_s, count)),
        np.clip(generator.lognormal(prompt_mean, prompt_spread, count), 1, 8000).astype(np.int64),
        np.clip(generator.lognormal(output_mean, output_spread, count), 1, 1500).astype(np.int64),
    )


def serve(system: str, trace: Trace) -> tuple[Records, Latencies]:
    """One prefill server in order of arrival; decoding slows with the number of requests that decode."""
    speed, alone_tpot_s, per_token_s = SPEEDS[system]
    count = len(trace)
    start, first = np.empty(count), np.empty(count)
    free = 0.0
    for i in range(count):
        start[i] = max(free, trace.arrival_s[i])
        free = first[i] = start[i] + trace.prompt_tokens[i] / speed + 0.02
    load = np.searchsorted(first, first) - np.searchsorted(first, first - 10)
    move = trace.prompt_tokens * per_token_s
    finish = first + move + (trace.output_tokens - 1) * alone_tpot_s * (1 + 0.02 * load)
    moved = per_token_s > 0
    base = Latencies(
        trace.prompt_tokens / 10000.0 + 0.02,
        np.where(trace.output_tokens > 1, 0.02, np.nan),
        trace.prompt_tokens / 10000.0 + 0.02 + (trace.output_tokens - 1) * 0.02,
    )
    records = Records(
        arrival_s=trace.arrival_s,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        prefill_start_s=start,
        first_token_s=first,
        transfer_start_s=first if moved else np.full(count, np.nan),
        transfer_end_s=first + move if moved else np.full(count, np.nan),
        finish_s=finish,
        prefill_replica=np.zeros(count, np.int32),
        decode_replica=np.full(count, int(moved), np.int32),
        preemptions=np.zeros(count, np.int32),
        status=np.zeros(count, np.int8),
    )
    return records, base


def make_cell(folder: Path, axes: Axes, scales: tuple[float, ...] = SCALES) -> CellResult:
    rate = axes.rate_per_s or 1.0
    trace = draw(axes.workload, rate, axes.seed, axes.requests)
    records, base = serve(axes.system, trace)
    facts = Facts(
        price_per_hour=13.5,
        num_gpus=8,
        num_replicas=4,
        plan="4 x TP=2, PP=1 both" if axes.family == "vllm" else "2 x TP=2, PP=1 prefill; 2 x TP=2, PP=1 decode",
        workload_hash=trace.digest,
        offered_rate_per_s=trace.offered_rate_per_s,
        dropped={"longer than 8192 tokens": 3},
        prompt_tokens=int(trace.prompt_tokens.sum()),
        output_tokens=int(trace.output_tokens.sum()),
    )
    name = f"{axes.family}-{axes.backend}-{axes.workload}-{rate:g}-{axes.seed}"
    cell = folder / "cells" / name
    cell.mkdir(parents=True)
    requests.write(cell, records, base)
    judged = tuple(
        Judged(
            slo, f"x{slo.scale:g}", *metrics.compute(requests.view(records, base, slo, axes, facts), metrics.names())
        )
        for slo in (Slo(scale=scale) for scale in scales)
    )
    write_json(cell / "cell.json", {"id": name, "axes": asdict(axes)})
    content = [
        {
            "slo": one.slo.model_dump(mode="json"),
            "label": one.label,
            "metrics": one.metrics,
            "intervals": one.intervals,
            "flags": one.flags,
        }
        for one in judged
    ]
    write_json(cell / "summary.json", {"facts": asdict(facts), "judged": content, "warnings": []})
    return CellResult(name, cell, axes, facts, judged, (), COMMIT)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def make_sweep(
    folder: Path,
    *,
    backends: tuple[str, ...] = ("simulated",),
    rates: tuple[float | None, ...] = (1.0, 2.0, 4.0, 8.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    count: int = 600,
) -> SweepResult:
    cells = [
        make_cell(
            folder,
            Axes(
                system,
                system.split("[")[0],
                backend,
                "inhouse-8xa100",
                "datasheet",
                "llama-30b",
                workload,
                rate,
                seed,
                count,
            ),
        )
        for system in SPEEDS
        for backend in backends
        for workload in LENGTHS
        for rate in rates
        for seed in seeds
    ]
    manifest = {
        "code": {"commit": COMMIT, "dirty": ""},
        "argv": ["harness", "run", "made-up.yaml"],
        "seeds": list(seeds),
    }
    resolved = {
        "sweep": {"name": "made-up", "slo": {"plan": None}, "rate": list(rates), "seeds": list(seeds)},
        "cells": [{"id": cell.id} for cell in cells],
    }
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "resolved.json", resolved)
    return SweepResult("made-up", folder, tuple(cells), (), manifest)


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """2 systems x 2 workloads x 4 rates x 3 seeds of 600 requests, judged at scales 2, 5 and 10."""
    return make_sweep(tmp_path_factory.mktemp("made-up"))


@pytest.fixture(scope="session")
def make() -> Callable[..., SweepResult]:
    """Makes such a sweep in a given folder."""
    return make_sweep


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., SweepResult]:
    """Makes another such sweep, with other axes."""
    return lambda **axes: make_sweep(tmp_path / "sweep", **axes)


def children(parent: int) -> list[int]:
    """Processes whose parent it is, as /proc has them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="session")
def workers_of() -> Callable[[int], list[int]]:
    """The worker processes of a run, by its pid."""
    return children
