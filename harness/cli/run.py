"""``harness run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.exits import Exit

if TYPE_CHECKING:
    from harness.run.drive import Run

Sweep = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of one in configs/sweeps.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, values in YAML: rate=[1,2] slo.scale=[5]"),
]


def run(
    sweep: Sweep,
    overrides: Overrides = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Worker processes; default: one a core. 1: in this process."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Workers on a Ray cluster: its address, or auto, or local (extra 'ray')."),
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Results folder; default: results/<name of the sweep>.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try cells again that failed before.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    pictures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures and write the report.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The outcome as JSON on standard output.")] = False,
) -> None:
    """Run a sweep, or what is left of it.

    Finished cells are kept: run it again after an interruption, or a crash, and it goes on where it stopped.
    """
    from harness.run import drive, progress
    from harness.sweep.source import read

    ready = drive.prepare(read(sweep, overrides or ()), results)
    if dry_run:
        _dry_run(ready, jobs, as_json=as_json)
        return
    options = drive.Options(results, jobs, retry_failed, pictures, ray)
    done = drive.drive(ready, options, progress.watch(quiet=quiet))
    code = Exit.INTERRUPTED if done.interrupted else Exit.FAILED_CELLS if done.tally.failed else Exit.OK
    if as_json:
        from harness.cli import out

        out.as_json(_summary(done, code))
    else:
        _tell(done)
    raise typer.Exit(code)


def _dry_run(ready: Any, jobs: int | None, *, as_json: bool) -> None:
    from harness.cli import out
    from harness.run import estimate

    outlook = estimate.outlook(ready, jobs)
    if as_json:
        out.as_json(outlook)
    else:
        typer.echo("\n".join(estimate.lines(outlook)))


def _summary(done: Run, code: int) -> dict[str, Any]:
    finish = done.finish
    return {
        "results": str(done.store.folder),
        "cells": done.tally.total,
        "done": done.tally.done,
        "found": done.tally.found,
        "failed": done.tally.failed,
        "interrupted": done.interrupted,
        "failures": [
            {"id": failure.id, "error": failure.error} for failure in (finish.result.failed if finish else ())
        ],
        "figures": [str(path) for path in (finish.figures if finish else ())],
        "report": str(finish.report) if finish and finish.report else None,
        "warnings": done.warnings,
        "exit_code": int(code),
    }


def _tell(done: Run) -> None:
    """The comparison, where everything lies, and what went wrong."""
    from rich.console import Console

    from harness.cli import out

    if done.finish is not None and done.finish.result.cells:
        from harness.table import print_comparison

        print_comparison(done.finish.result, Console())
    for words in done.warnings:
        out.warn(words)
    tally = done.tally
    typer.echo(f"{tally.found + tally.done} of {tally.total} cells done, {tally.failed} failed: {done.store.folder}")
    if done.finish is not None:
        for failure in done.finish.result.failed[:5]:
            typer.echo(
                f"  failed {failure.id}: {failure.error}  (harness show {failure.id} --results {done.store.folder})"
            )
        if done.finish.report is not None:
            typer.echo(f"report: {done.finish.report}")
