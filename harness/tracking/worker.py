"""The process that writes W&B runs: reads which cells are finished, one JSON line each, until its input ends."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import comparison
from harness.result import CellResult, SweepResult
from harness.store import load
from harness.store.layout import Store
from harness.tracking.wandb import marker

Settings = dict[str, Any]


def main() -> int:
    """``worker FOLDER SETTINGS``; messages on stdin. Prints what went wrong, one line each; the code is 1 then."""
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    with contextlib.suppress(OSError):
        os.nice(5)
    quiet_environment(folder)
    problems = work(folder, settings, map(json.loads, sys.stdin))
    for problem in dict.fromkeys(problems):
        print(problem, flush=True)  # noqa: T201 this is how the parent is told
    return 1 if problems else 0


def quiet_environment(folder: Path) -> None:
    """Nothing of wandb on the terminal or in the user's home; what waits for a sync lies with the results."""
    os.environ["WANDB_SILENT"] = "true"
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ.setdefault(name, str(folder / "wandb" / "staging"))


def work(folder: Path, settings: Settings, messages: Iterable[dict[str, Any]]) -> list[str]:
    """Make a run of each message. What fails is told once and does not stop the others; online falls back to offline."""
    problems: list[str] = []
    for message in messages:
        try:
            track(folder, settings, message)
        except Exception as error:
            traceback.print_exc()
            if settings["mode"] != "online":
                problems.append(f"{type(error).__name__}: {error}")
                continue
            settings = settings | {"mode": "offline"}
            problems.append(
                f"online failed ({str(error).splitlines()[0] if str(error) else error!r}); runs are kept offline"
            )
            let_go()
            try:
                track(folder, settings, message)
            except Exception:
                traceback.print_exc()
    let_go()
    return problems


def let_go() -> None:
    """End wandb's own process; the next run starts a new one."""
    with contextlib.suppress(Exception):
        import wandb

        wandb.teardown()


def track(folder: Path, settings: Settings, message: dict[str, Any]) -> None:
    """Write one run, finish it, and leave its marker."""
    done = marker(folder, message["run"], settings["mode"])
    if done.exists():
        return
    if "cell" in message:
        track_cell(folder, settings, message["run"], load.cell(Store(folder), message["cell"]))
    else:
        track_sweep(folder, settings, message["run"], [Path(item) for item in message["figures"]])
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()


def track_cell(folder: Path, settings: Settings, run_id: str, cell: CellResult) -> None:
    """One cell: its axes and facts as config, its metrics at every SLO as summary."""
    config = asdict(cell.axes) | {f"fact/{name}": value for name, value in asdict(cell.facts).items()}
    with start(
        folder, settings, run_id, name=words(cell), job_type=cell.axes.family, config=config | {"cell": cell.id}
    ) as run:
        run.summary.update(summary(cell))


def words(cell: CellResult) -> str:
    """``vllm azure-code 2/s seed 0``: what a list of runs shows."""
    axes = cell.axes
    rate = (
        "capacity"
        if comparison.is_capacity(cell)
        else "replay"
        if axes.rate_per_s is None
        else f"{axes.rate_per_s:g}/s"
    )
    return f"{axes.system} {axes.cluster} {axes.workload} {rate} seed {axes.seed}"


def summary(cell: CellResult) -> dict[str, float | str]:
    """``<slo>/<metric>`` with its interval's ends and flag; what is not defined is left out."""
    found: dict[str, float | str] = {}
    for judged in cell.judged:
        for name, value in judged.metrics.items():
            if value is not None:
                found[f"{judged.label}/{name}"] = value
        for name, (low, high) in judged.intervals.items():
            found |= {f"{judged.label}/{name}_low": low, f"{judged.label}/{name}_high": high}
        found |= {f"{judged.label}/{name}_flag": flag for name, flag in judged.flags.items()}
    return found


def track_sweep(folder: Path, settings: Settings, run_id: str, figures: list[Path]) -> None:
    """The whole sweep: the table of all cells, the figures, and who wins where."""
    import wandb

    from harness.report.findings import findings

    result = load.sweep(folder)
    config = {"sweep": result.name, "cells": len(result.cells), "failed": len(result.failed)}
    with start(folder, settings, run_id, name=f"{result.name} (summary)", job_type="summary", config=config) as run:
        columns, rows = table(result)
        run.log({"cells": wandb.Table(columns=list(columns), data=list(rows))})
        pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures if path.is_file()}
        if pictures:
            run.log(pictures)
        run.summary.update({f"findings/{index}": sentence for index, sentence in enumerate(findings(result))})


def table(result: SweepResult) -> tuple[list[str], list[list[Any]]]:
    """One row a cell and SLO: axes, SLO, metrics."""
    metrics = list(dict.fromkeys(name for cell in result.cells for judged in cell.judged for name in judged.metrics))
    axes = list(asdict(result.cells[0].axes))
    rows = [
        [cell.id, *asdict(cell.axes).values(), judged.label, *(judged.metrics.get(name) for name in metrics)]
        for cell in result.cells
        for judged in cell.judged
    ]
    return ["cell", *axes, "slo", *metrics], rows


def start(folder: Path, settings: Settings, run_id: str, *, name: str, job_type: str, config: dict[str, Any]) -> Any:
    """A W&B run without anything that costs time or tells of the machine: no git, packages, console, or statistics."""
    import wandb

    return wandb.init(
        project=settings["project"], entity=settings["entity"], tags=list(settings["tags"]) or None, id=run_id,
        name=name, group=group(folder), job_type=job_type, config=config, mode=settings["mode"], reinit="create_new",
        settings=wandb.Settings(
            root_dir=str(folder), silent=True, quiet=True, console="off", disable_git=True, disable_code=True,
            save_code=False, disable_job_creation=True, x_disable_stats=True, x_disable_meta=True,
            x_disable_machine_info=True, x_save_requirements=False, init_timeout=30,
        ),
    )  # fmt: skip


def group(folder: Path) -> str:
    """The sweep's name and the hash of what it resolves to: runs of one sweep belong together, also over several calls."""
    import hashlib

    try:
        text = (folder / "resolved.json").read_bytes()
        return f"{json.loads(text)['sweep']['name']}-{hashlib.sha256(text).hexdigest()[:8]}"
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


if __name__ == "__main__":
    sys.exit(main())
