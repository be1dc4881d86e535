"""``harness bench simulator``: requests a CPU second, memory, cold start, and how both grow.

Every case runs in a process of its own, so that its peak memory is its own. Requests arrive as a Poisson process with
lognormal lengths of mean 1,000 and 200 tokens; times are CPU seconds of this one process after compilation, the best of three.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from thunderserve.simulator.fleet import Fleet

PEERS = {"Dynamo 1.4.1": 8300.0, "Vidur": 123.0}
"""Requests a CPU second of public simulators on this workload, one colocated A100, 4 requests/s (two shared Zen 1 cores)."""

COLOCATED = {"chunked": "colocated, chunked prefill", "prefill_first": "colocated, whole prompts first"}
SPLIT_SHAPES = [
    # GPU type of cloud-32, first card, tensor parallel, stages, phase: twelve replicas of LLaMA-30B on 32 cards
    *[("A40", 16 + 2 * i, 2, 1, "prefill") for i in range(4)],
    *[("A6000", 2 * i, 1, 2, "prefill") for i in range(2)],
    *[("A6000", 4 + 2 * i, 2, 1, "decode") for i in range(2)],
    *[("A5000", 8 + 4 * i, 2, 2, "decode") for i in range(2)],
    *[("3090Ti", 24 + 4 * i, 2, 2, "decode") for i in range(2)],
]


def main(args: list[str]) -> int:
    """Print the table; ``--json`` for a script, ``--large`` for 10 million requests and 1,000 replicas as well."""
    parser = argparse.ArgumentParser(prog="harness bench simulator", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--large", action="store_true", help="also 10 million requests, and 1,000 replicas")
    parser.add_argument("--case", choices=sorted(CASES), help="run this case alone, here, and print its JSON")
    parser.add_argument("--requests", type=int, help="requests of that case")
    options = parser.parse_args(args)
    if options.case:
        _say(json.dumps(run_case(options.case, options.requests)))
        return 0
    names: list[tuple[str, int | None]] = [(name, None) for name in ("chunked", "prefill_first", "split", "replicas")]
    if options.large:
        names += [("prefill_first", 10_000_000), ("replicas", 10_000_000)]
    starts = cold_starts()
    rows = [_in_a_process(name, requests) for name, requests in names]
    if options.json:
        _say(json.dumps({"cases": rows, "cold_start_s": starts, "peers": PEERS}))
    else:
        _show(rows, starts)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _show(rows: list[dict[str, Any]], starts: dict[str, float]) -> None:
    _say(
        f"{'case':44} {'requests':>10} {'req/CPU-s':>11} {'steps/CPU-s':>12} {'peak MB':>8}  times " + ", ".join(PEERS)
    )
    for row in rows:
        ratios = ", ".join(f"{row['requests_per_s'] / peer:,.0f}x" for peer in PEERS.values())
        _say(
            f"{row['case']:44} {row['requests']:10,} {row['requests_per_s']:11,.0f} {row['steps_per_s']:12,.0f} "
            f"{row['peak_mb']:8,.0f}  {ratios}"
        )
    _say("\nfrom the start of Python to the end of a first simulation:")
    for name, seconds in starts.items():
        _say(f"  {name:28} {seconds:6.2f} CPU s")


def _in_a_process(name: str, requests: int | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "harness.bench.simulator", "--case", name]
    command += ["--requests", str(requests)] if requests else []
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_single_threaded())
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def cold_starts() -> dict[str, float]:
    """CPU seconds of a process that simulates a few requests, without and with numba's cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = _single_threaded() | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-m", "harness.bench.simulator", "--case", "first"]
        found = {}
        for name in ("without numba's cache", "with numba's cache"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def _single_threaded() -> dict[str, str]:
    return dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run_case(name: str, requests: int | None) -> dict[str, Any]:
    """Simulate one case and say how fast it was."""
    title, make, rate_per_s, count = CASES[name]
    count = requests or count
    fleet = make()
    trace = poisson(count, rate_per_s)
    fleet.run(*(column[:50] for column in trace))
    best_s = np.inf
    for _ in range(3 if count <= 1_000_000 else 1):
        begin_s = time.process_time()
        outcome = fleet.run(*trace)
        best_s = min(best_s, time.process_time() - begin_s)
    rows = outcome.requests
    return {
        "case": title,
        "requests": count,
        "rate_per_s": rate_per_s,
        "cpu_s": best_s,
        "requests_per_s": count / best_s,
        "steps_per_s": float(outcome.replicas["steps"].sum()) / best_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "finished": int((rows["status"] == 0).sum()),
        "preemptions": int(rows["preemptions"].sum()),
        "transfers": int(np.isfinite(rows["transfer_end_s"]).sum()),
        "ttft_mean_s": float(np.nanmean(rows["first_token_s"] - rows["arrival_s"])),
    }


def poisson(count: int, rate_per_s: float) -> tuple[Any, Any, Any]:
    """Arrivals and lengths, always the same."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1 / rate_per_s, count))
    lengths = [rng.lognormal(np.log(mean) - 0.08, 0.4, count).clip(1, 4 * mean) for mean in (1000, 200)]
    return arrivals, lengths[0].astype(np.int64), lengths[1].astype(np.int64)


def colocated(policy: str, replicas: int = 1) -> Fleet:
    """Replicas of Llama-7B, each on one A100-80G."""
    from thunderserve.cost.roofline import Roofline
    from thunderserve.simulator.backend import replica_setup
    from thunderserve.simulator.fleet import Fleet, RouteSetup
    from thunderserve.spec.load import load_cluster, load_model
    from thunderserve.spec.plan import Batching, Phase, Replica, Stage

    model, cluster = load_model("llama-7b"), load_cluster("inhouse-8xa100")
    batching = Batching(policy=policy, max_sequences=256, max_batched_tokens=4096)
    stage = Stage(devices=(0,), num_layers=model.num_layers)
    setup = replica_setup(model, Replica(stages=(stage,), phase=Phase.BOTH, batching=batching), cluster, Roofline())
    return Fleet([setup] * replicas, [RouteSetup(index, index) for index in range(replicas)])


def split() -> Fleet:
    """LLaMA-30B on cloud-32: six prefill and six decode replicas, every pair joined, links between nodes shared."""
    from thunderserve.backend import Deployment
    from thunderserve.cost.roofline import Roofline
    from thunderserve.simulator.backend import fleet_of
    from thunderserve.spec.kv import INT4
    from thunderserve.spec.load import load_cluster, load_model
    from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage

    model, cluster = load_model("llama-30b"), load_cluster("cloud-32")
    replicas = []
    for _, first, tp, stages, phase in SPLIT_SHAPES:
        layers = model.num_layers // stages
        made = [
            Stage(devices=tuple(range(first + tp * i, first + tp * (i + 1))), num_layers=layers) for i in range(stages)
        ]
        batching = Batching(policy="saturation" if phase == "prefill" else "continuous", max_sequences=128)
        replicas.append(Replica(stages=tuple(made), phase=Phase(phase), batching=batching))
    ends = [[i for i, replica in enumerate(replicas) if replica.phase == phase] for phase in ("prefill", "decode")]
    pairs = [(prefill, decode) for prefill in ends[0] for decode in ends[1]]
    flows = tuple(Flow(prefill=a, decode=b, share=1 / len(pairs), codec=INT4) for a, b in pairs)
    plan = Plan(system="bench", replicas=tuple(replicas), flows=flows)
    return fleet_of(Deployment(plan, cluster, model), Roofline())


CASES: dict[str, tuple[str, Callable[[], Fleet], float, int]] = {
    "chunked": ("1 replica, chunked prefill", lambda: colocated("chunked"), 4.0, 100_000),
    "prefill_first": ("1 replica, whole prompts first", lambda: colocated("prefill_first"), 4.0, 100_000),
    "split": ("cloud-32, 6 prefill + 6 decode, queued links", split, 3.0, 100_000),
    "replicas": ("1,000 replicas, chunked prefill", lambda: colocated("chunked", 1000), 4000.0, 200_000),
    "first": ("a first simulation", lambda: colocated("chunked"), 4.0, 50),
}
"""Name: title, fleet, requests a second, requests."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
