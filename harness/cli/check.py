"""``harness check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import Exit


def check(
    results: Annotated[Path, typer.Argument(help="A results folder.")],
    rerun: Annotated[
        int, typer.Option(min=0, help="Cells, chosen at random, to run again and compare byte by byte.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of that choice.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Is a result complete, untampered, reproducible?

    Reproducible with this checkout, that is: cells are judged anew from their requests, and some are run again.
    """
    from harness.cli import out
    from harness.run.audit import audit

    findings = audit(results, rerun=rerun, seed=seed)
    passed = all(finding.passed for finding in findings)
    if as_json:
        out.as_json({"results": str(results), "passed": passed, "checks": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{'pass' if finding.passed else 'FAIL'}  {finding.check}: {finding.words}")
    raise typer.Exit(Exit.OK if passed else Exit.CHECK_FAILED)
