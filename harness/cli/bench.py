"""``harness bench``."""

from __future__ import annotations

from typing import Annotated

import typer


def bench(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Which; without it, all are listed. Options after it are its own.")
    ] = None,
) -> None:
    """Measure the program itself.

    The cost model against measured GPUs, the speed of the simulator, the harness's own overhead.
    """
    import importlib

    from harness.cli.listing import has_main, modules, summary
    from thunderserve.spec.errors import SpecError, nearest

    known = [item for item in modules("harness.bench") if has_main("harness.bench", item)]
    if name is None:
        for item in known:
            typer.echo(f"  {item:12} {summary('harness.bench', item)}")
        return
    if name not in known:
        raise SpecError("unknown bench", value=name, remedy=nearest(name, known))
    raise typer.Exit(importlib.import_module(f"harness.bench.{name}").main(list(context.args)))
