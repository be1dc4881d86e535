"""``harness validate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.cli.run import Overrides, Sweep


def validate(
    sweep: Sweep,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON on standard output.")] = False,
) -> None:
    """Check a sweep file and all that it names."""
    from harness.cli import out
    from harness.cli.exits import Exit
    from harness.sweep.cells import expand
    from harness.sweep.resolve import resolve
    from harness.sweep.source import read
    from thunderserve.spec.errors import SpecError

    try:
        resolved = resolve(read(sweep, overrides or ()))
    except SpecError as error:
        if not as_json:
            raise
        out.as_json(_complaint(error))
        raise typer.Exit(Exit.BAD_INPUT) from None
    cells = expand(resolved)
    if as_json:
        out.as_json({"valid": True, "name": resolved.sweep.name, "cells": len(cells)})
    else:
        typer.echo(f"{sweep}: valid; {len(cells)} cells")


def _complaint(error: Any) -> dict[str, Any]:
    return {
        "valid": False,
        "file": str(error.file) if error.file is not None else None,
        "line": error.line,
        "key": error.key,
        "value": error.value,
        "reason": error.reason,
        "remedy": error.remedy,
        "message": str(error),
    }
