"""``harness init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    target: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it; default: the template's own name.")
    ] = None,
    template: Annotated[str, typer.Option("--template", "-t", help="Which template.")] = "quickstart",
    listing: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Start from a template.

    Of a sweep, or of a system, a GPU, a cluster, a model or a workload of your own; --list names them.
    """
    from harness.cli import out
    from thunderserve.spec.errors import SpecError, nearest

    known = {path.stem: path for path in sorted(FOLDER.iterdir()) if path.suffix in (".yaml", ".py")}
    if listing:
        out.columns((name, first_line(path)) for name, path in known.items())
        return
    if template not in known:
        raise SpecError("unknown template", value=template, remedy=nearest(template, known))
    source = known[template]
    path = target or Path(source.name)
    if path.exists() and not force:
        raise SpecError("is there already", file=path, remedy="name another file, or give --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    typer.echo(path)


FOLDER = Path(__file__).resolve().parents[1] / "templates"


def first_line(path: Path) -> str:
    """What a template is for: its first line."""
    return path.read_text(encoding="utf-8").partition("\n")[0].strip('#" ')
