"""``harness bench engine``: our replica against transformers' own continuous batching: same weights, prompts, batch and cache.

Each engine has a process and a core of its own, one after the other, in turns; what counts is the fastest turn of each. All
requests come at once, every answer has the same length, and nothing is shared between prompts. Measured, not simulated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

ENGINES = ("thunderserve", "transformers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return 0 if ours is the faster one."""
    from rich.console import Console
    from rich.table import Table

    from thunderserve.engine.checkpoint.locate import locate

    parser = argparse.ArgumentParser(prog="harness bench engine", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m", help="a packaged model, a folder or a .gguf file")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args(arguments)
    bout = {
        "model": locate(given.model, print), "dtype": given.dtype, "prompts": given.prompts,
        "output_tokens": given.output_tokens,
    }  # fmt: skip
    turns: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for _ in range(given.repeats):
        for engine in ENGINES:
            turns[engine].append(serve(bout | {"engine": engine}))
    best = {engine: min(found, key=lambda one: float(one["cpu_s"])) for engine, found in turns.items()}
    table = Table(title=f"{given.model}, {given.dtype}, {given.prompts} requests at once, one core")
    for heading in ("engine", "CPU s", "prompt tokens", "output tokens", "output tokens/CPU s"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for engine, one in best.items():
        table.add_row(
            engine, f"{one['cpu_s']:.2f}", str(one["prompt_tokens"]), str(one["output_tokens"]),
            f"{one['output_tokens'] / one['cpu_s']:.1f}",
        )  # fmt: skip
    Console().print(table)
    first, second = (best[engine] for engine in ENGINES)
    same = sum(a == b for a, b in zip(first["answers"], second["answers"], strict=True))
    ratio = second["cpu_s"] / first["cpu_s"]
    sys.stdout.write(
        f"ours is {ratio:.2f} times as fast; {same} of {given.prompts} greedy answers are the same to the last token\n"
    )
    return 0 if ratio >= 1 else 1


def serve(bout: dict[str, Any]) -> dict[str, Any]:
    """One turn in a process of its own, on one core."""
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "thunderserve.engine.rival", json.dumps(bout)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    if done.returncode:
        raise RuntimeError(f"{bout['engine']} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
