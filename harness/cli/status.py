"""``harness status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def status(
    results: Annotated[Path, typer.Argument(help="A results folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Tell what is done, failed and missing."""
    from harness.cli import out

    state = state_of(results)
    if as_json:
        out.as_json(state)
        return
    typer.echo(
        f"{results}: {state['done']} of {state['cells']} done, {state['failed']} failed, {state['missing']} missing"
    )
    for failure in state["failures"]:
        typer.echo(f"  failed {failure['id']}  {failure['where']}: {failure['error']}")
    if state["stale"]:
        typer.echo(
            f"  {state['stale']} cells of earlier sweeps or of other code lie here too; they are not part of the results"
        )
    if state["runs"]:
        last = state["runs"][-1]
        typer.echo(
            f"  last run {last['started_at']}, {last['wall_s']:.1f} s"
            + (", interrupted" if last["interrupted"] else "")
        )


def state_of(results: Path) -> dict[str, Any]:
    """Counts and lists, as ``--json`` gives them. Raises SpecError when there is no run in ``results``."""
    from harness.store.layout import Store
    from harness.store.load import failure
    from harness.store.manifest import earlier_runs

    store = Store(results)
    ids = [str(entry["id"]) for entry in store.expected()]
    done = [cell_id for cell_id in ids if store.is_served(cell_id)]
    failed = [failure(store, cell_id) for cell_id in ids if cell_id not in done and store.has_failed(cell_id)]
    gone = [cell_id for cell_id in ids if cell_id not in done and not store.has_failed(cell_id)]
    folder = results / "cells"
    present = {item.name for item in folder.iterdir() if not item.name.startswith(".")} if folder.is_dir() else set()
    return {
        "results": str(results),
        "cells": len(ids),
        "done": len(done),
        "failed": len(failed),
        "missing": len(gone),
        "stale": len(present - set(ids)),
        "done_ids": done,
        "missing_ids": gone,
        "failures": [
            {
                "id": item.id,
                "where": f"{item.axes.system} {item.axes.workload} seed {item.axes.seed}",
                "error": item.error,
            }
            for item in failed
        ],
        "runs": earlier_runs(store),
    }
