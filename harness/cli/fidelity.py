"""``harness fidelity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fidelity(
    results: Annotated[Path, typer.Argument(help="Results of a sweep with a real backend and the simulated one.")],
) -> None:
    """Hold the simulator against a real engine, cell by cell.

    Prints the errors, and writes fidelity.csv and figures/fidelity.* into the results folder.
    """
    from rich.console import Console

    from harness import fidelity as held
    from harness.figures import missing
    from harness.store import atomic, load
    from harness.sweep.backends import SIMULATED
    from thunderserve.spec.errors import SpecError

    result = load.sweep(results)
    found = held.pairs(result)
    if not found:
        raise SpecError(
            "no cell is there both simulated and real",
            file=results,
            remedy="run a sweep with backend: [engine, simulated]",
        )
    held.print_fidelity(found, Console())
    atomic.write_text(results / "fidelity.csv", held.as_csv(found))
    if reason := missing():
        typer.echo(reason)
        return
    axes = result.cells[0].axes
    real = " and ".join(dict.fromkeys(c.axes.backend for c in result.cells if c.axes.backend != SIMULATED))
    origin = f"real: {real} on this machine · {axes.model} · {axes.cluster} · {axes.requests} requests a cell"
    for path in held.draw(found, results / "figures" / "fidelity", f"{origin} · commit {result.cells[0].commit[:10]}"):
        typer.echo(path)
