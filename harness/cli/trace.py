"""``harness trace``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Public request traces.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def traces() -> None:
    """Public request traces."""


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Which: azure.")],
    folder: Annotated[Path, typer.Option(help="Where to put the files.")] = Path("traces"),
) -> None:
    """Download the originals of a public trace and check their digests."""
    from thunderserve.spec.errors import SpecError, nearest
    from thunderserve.workload import fetch as source

    if name != "azure":
        raise SpecError("unknown trace", value=name, remedy=nearest(name, ["azure"]))
    for path in source.fetch_azure(folder):
        typer.echo(path)
