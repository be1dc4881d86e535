"""``harness plot`` and ``harness report``: pictures of results that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Results = Annotated[Path, typer.Argument(help="A results folder.")]


def plot(
    results: Results,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[FIGURE]...", help="Default: those of the sweep, or all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: figures/ in the results folder.")] = None,
) -> None:
    """Draw figures from a results folder.

    PDF, PNG and SVG of each, and the table of its points.
    """
    from harness import figures
    from harness.store import atomic, load
    from thunderserve.spec.errors import SpecError, nearest

    result = load.sweep(results)
    chosen = names or atomic.read_json(results / "resolved.json")["sweep"]["figures"] or list(figures.names())
    for name in chosen:
        if name not in figures.names():
            raise SpecError("unknown figure", value=name, remedy=nearest(name, figures.names()))
    for path in figures.draw_all(result, chosen, out or results / "figures"):
        typer.echo(path)


def report(results: Results) -> None:
    """Write the HTML report of a results folder.

    One file, which opens without a network.
    """
    from harness.report import write_report
    from harness.store import load

    result = load.sweep(results)
    typer.echo(write_report(result, sorted((results / "figures").glob("*.svg"))))
