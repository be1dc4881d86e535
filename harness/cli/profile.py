"""``harness profile``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from thunderserve.engine.profile import Measured


def profile(
    model: Annotated[str, typer.Option(help="A packaged model, a folder, a .gguf file, or owner/model of a hub.")] = (
        "smollm2-135m"
    ),
    output: Annotated[Path, typer.Option("-o", "--output", help="The table to write.")] = Path("profile.csv"),
    dtype: Annotated[str, typer.Option(help="Of weights and cache.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of one worker.")] = 1,
    gpu: Annotated[str, typer.Option(help="The card type that a cluster file names for this device.")] = "cpu-core",
    engine: Annotated[
        str, typer.Option(help="Whose steps: thunderserve, or vllm, started as backend: vllm starts it.")
    ] = ("thunderserve"),
    url: Annotated[str | None, typer.Option(help="A running OpenAI-compatible server, in place of an engine.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Of every shape, spread over the whole time.")] = 5,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure this machine's step times, for the simulator: costs: profile.csv in a sweep.

    Steps run through the engine's own code, with random tokens, at batches and lengths on a grid. Two minutes for a small model.
    Of a server (--url, --engine vllm) they are seen from outside: prompts alone, and gaps between the tokens of a known batch.
    """
    from rich.console import Console
    from rich.progress import Progress

    from harness.cli._engines import ENGINES
    from harness.store import atomic
    from thunderserve.engine.launch.plan import DTYPES
    from thunderserve.engine.profile import COLUMNS, rows
    from thunderserve.spec.errors import SpecError, nearest

    if dtype not in DTYPES:
        raise SpecError("no such dtype", key="--dtype", value=dtype, remedy=nearest(dtype, DTYPES))
    if engine not in ENGINES:
        raise SpecError("no such engine", key="--engine", value=engine, remedy=nearest(engine, ENGINES))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("shapes")

        def note(done: int, whole: int) -> None:
            progress.update(task, completed=done, total=whole)

        found: list[Measured]
        if url is not None or engine == "vllm":
            from harness.load.profile import Grid as Outside
            from harness.load.profile import of_server, of_vllm

            outside = Outside(repeats=repeats)
            found = of_server(url, outside, note) if url is not None else of_vllm(model, dtype, device, outside, note)
        else:
            found = _of_ours(model, dtype, device, threads, repeats, note)
    lines: list[tuple[Any, ...]] = [COLUMNS, *rows(found, gpu, Path(model).name)]
    atomic.write_text(output, "".join(",".join(map(str, line)) + "\n" for line in lines))
    typer.echo(f"{len(found)} shapes: {output}")


def _of_ours(
    model: str, dtype: str, device: str, threads: int, repeats: int, note: Callable[[int, int], None]
) -> list[Measured]:
    from thunderserve.engine.checkpoint.locate import locate
    from thunderserve.engine.profile import Grid
    from thunderserve.engine.profile import profile as measured

    grid = Grid(repeats=repeats)
    return measured(locate(model, typer.echo), dtype=dtype, device=device, threads=threads, grid=grid, note=note)
