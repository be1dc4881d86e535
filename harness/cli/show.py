"""``harness show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.store.layout import Store


def show(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, the beginning of it, or its folder.")],
    results: Annotated[Path | None, typer.Option(help="Results folder; default: all below results/.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Show one cell: axes, plan, metrics.

    At every SLO, with intervals; or, of a failed cell, why it failed.
    """
    from harness.cli import out

    store, cell_id = find(cell, results)
    content = content_of(store, cell_id)
    if as_json:
        out.as_json(content)
    elif "error" in content:
        typer.echo(f"{cell_id} failed: {content['error']}\n\n{content['traceback']}")
    else:
        _tell(store.cell(cell_id), content)


def find(cell: str, results: Path | None) -> tuple[Store, str]:
    """The results folder and the whole id of a cell. Raises SpecError when there is none, or more than one."""
    from harness.store.layout import Store
    from thunderserve.spec.errors import SpecError

    if "/" in cell:
        folder = Path(cell)
        return Store(folder.parent.parent), folder.name
    roots = [results] if results is not None else sorted(item for item in Path("results").glob("*") if item.is_dir())
    found = sorted(
        {(root, item.name) for root in roots for part in ("cells", "failed") for item in root.glob(f"{part}/{cell}*")}
    )
    if not found:
        where = str(results) if results is not None else "results/"
        raise SpecError(
            f"no cell of {where} begins so", value=cell, remedy="see 'harness status RESULTS --json' for the ids"
        )
    if len(found) > 1:
        raise SpecError("more than one cell begins so", value=cell, remedy=", ".join(name for _, name in found[:5]))
    return Store(found[0][0]), found[0][1]


def content_of(store: Store, cell_id: str) -> dict[str, Any]:
    """``cell.json``, plan and summary together; or the failure."""
    from harness.store import atomic

    folder = store.cell(cell_id)
    if not folder.is_dir():
        failure: dict[str, Any] = atomic.read_json(store.failure(cell_id) / "failure.json")
        return failure
    parts = {name: atomic.read_json(folder / f"{name}.json") for name in ("summary", "plan", "run")}
    probes = {"probes": atomic.read_json(folder / "probes.json")} if (folder / "probes.json").is_file() else {}
    record: dict[str, Any] = atomic.read_json(folder / "cell.json")
    return record | parts | probes | {"folder": str(folder)}


def _tell(folder: Path, content: dict[str, Any]) -> None:
    from harness.cli import out

    typer.echo(f"cell {content['id']}  {folder}")
    out.columns((name, str(value)) for name, value in content["axes"].items())
    typer.echo("facts")
    out.columns((name, str(value)) for name, value in content["facts"].items())
    for note, words in content["plan"]["notes"].items():
        typer.echo(f"  {note}: {words}")
    for judged in content["summary"]["judged"]:
        typer.echo(f"at SLO {judged['label']}")
        out.columns(_metric(judged, name) for name in judged["metrics"])
    for words in content["summary"]["warnings"]:
        out.warn(words)


def _metric(judged: dict[str, Any], name: str) -> tuple[str, str, str, str]:
    value, interval = judged["metrics"][name], judged["intervals"].get(name)
    shown = "-" if value is None else f"{value:.5g}"
    between = f"[{interval[0]:.5g}, {interval[1]:.5g}]" if interval else ""
    return name, shown, between, judged["flags"].get(name, "")
