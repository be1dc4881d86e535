"""``harness accuracy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import Exit


def accuracy(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study file, or the name of one in configs/accuracy.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, values in YAML: limit=20 codecs=[int4]"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with coqa/, truthfulqa/ and gsm8k/; default: THUNDERSERVE_DATA/eval, else the hub."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; default: one a core.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Results folder; default: results/<name of the study>.")] = None,
    pictures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure what compressed KV costs in answers, on real questions.

    The context's KV takes one round trip through each codec, and nothing else does. Answers are kept one by one:
    run it again after an interruption, and it goes on with the next question.
    """
    from importlib.util import find_spec

    from rich.console import Console

    from harness.accuracy.study import open_study
    from thunderserve.spec.errors import SpecError

    if absent := [name for name in ("torch", "transformers", "lm_eval", "datasets") if find_spec(name) is None]:
        raise SpecError(f"the evaluation needs {', '.join(absent)}", remedy="pip install 'thunderserve[eval]'")
    opened = open_study(study, overrides or (), data)
    from harness.accuracy.drive import drive
    from harness.accuracy.finish import finish
    from harness.accuracy.table import print_rows
    from harness.cli import out
    from harness.run.progress import watch

    folder = results or Path("results") / opened.study.name
    done = drive(opened, folder, watch(quiet=quiet), workers=jobs)
    found = finish(opened, done, pictures=pictures)
    if found:
        print_rows(found, Console())
    for key, error in done.errors.items():
        unit = next(unit for unit in done.units if unit.key == key)
        out.warn(f"{unit.words}: {error}; see {folder / 'failed' / key / 'failure.json'}")
    typer.echo(f"{len(done.units) - len(done.errors)} of {len(done.units)} measurements done: {folder}")
    raise typer.Exit(Exit.INTERRUPTED if done.interrupted else Exit.FAILED_CELLS if done.errors else Exit.OK)
