"""``harness profile``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def profile(
    model: Annotated[str, typer.Option(help="A packaged model, a folder, a .gguf file, or owner/model of a hub.")] = (
        "smollm2-135m"
    ),
    output: Annotated[Path, typer.Option("-o", "--output", help="The table to write.")] = Path("profile.csv"),
    dtype: Annotated[str, typer.Option(help="Of weights and cache.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of one worker.")] = 1,
    gpu: Annotated[str, typer.Option(help="The card type that a cluster file names for this device.")] = "cpu-core",
    repeats: Annotated[int, typer.Option(min=1, help="Of every shape; the median counts.")] = 3,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure this machine's step times, for the simulator: costs: profile.csv in a sweep.

    Steps run through the engine's own code, with random tokens, at batches and lengths on a grid. A minute for a small model.
    """
    from harness.store import atomic
    from thunderserve.spec.errors import SpecError

    if dtype not in ("float32", "bfloat16", "float16"):
        raise SpecError("no such dtype", key="dtype", value=dtype, remedy="float32, bfloat16 or float16")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from rich.console import Console
    from rich.progress import Progress

    from thunderserve.engine.checkpoint.locate import locate
    from thunderserve.engine.profile import COLUMNS, Grid, rows
    from thunderserve.engine.profile import profile as measured

    folder = locate(model, typer.echo)
    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("shapes")
        found = measured(
            folder, dtype=dtype, device=device, threads=threads, grid=Grid(repeats=repeats),
            note=lambda done, whole: progress.update(task, completed=done, total=whole),
        )  # fmt: skip
    lines: list[tuple[Any, ...]] = [COLUMNS, *rows(found, gpu, Path(model).name)]
    atomic.write_text(output, "".join(",".join(map(str, line)) + "\n" for line in lines))
    typer.echo(f"{len(found)} shapes: {output}")
