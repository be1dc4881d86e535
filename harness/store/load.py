"""Reading results back: folders into ``CellResult`` and ``SweepResult``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.result import Axes, CellResult, Facts, Failure, Judged, SweepResult
from harness.store import atomic
from harness.store.layout import Store
from thunderserve.spec.slo import Slo


def judged(item: dict[str, Any]) -> Judged:
    """One entry of a summary's ``judged``."""
    return Judged(
        slo=Slo.model_validate(item["slo"]),
        label=item["label"],
        metrics=item["metrics"],
        intervals={name: (low, high) for name, (low, high) in item["intervals"].items()},
        flags=item["flags"],
    )


def cell(store: Store, cell_id: str, *, commit: str = "") -> CellResult:
    """A finished cell. Raises OSError, ValueError or KeyError when it is not whole."""
    folder = store.cell(cell_id)
    record = atomic.read_json(folder / "cell.json")
    summary = atomic.read_json(folder / "summary.json")
    return CellResult(
        id=cell_id,
        folder=folder,
        axes=Axes(**record["axes"]),
        facts=Facts(**summary["facts"]),
        judged=tuple(judged(item) for item in summary["judged"]),
        warnings=tuple(summary["warnings"]),
        commit=commit,
    )


def failure(store: Store, cell_id: str) -> Failure:
    """A failed cell, with its traceback."""
    folder = store.failure(cell_id)
    record = atomic.read_json(folder / "failure.json")
    return Failure(
        id=cell_id, folder=folder, axes=Axes(**record["axes"]), error=record["error"], traceback=record["traceback"]
    )


def sweep(folder: Path) -> SweepResult:
    """All cells that the last run's sweep names and that are on disk, in its order. Raises SpecError without a run there."""
    store = Store(folder)
    expected = store.expected()
    manifest = atomic.read_json(store.manifest) if store.manifest.is_file() else {}
    commit = str(manifest.get("code", {}).get("commit", ""))
    ids = [str(item["id"]) for item in expected]
    done = [cell_id for cell_id in ids if (store.cell(cell_id) / "summary.json").is_file()]
    return SweepResult(
        name=str(atomic.read_json(store.resolved)["sweep"]["name"]),
        folder=folder,
        cells=tuple(cell(store, cell_id, commit=commit) for cell_id in done),
        failed=tuple(failure(store, i) for i in ids if i not in done and store.has_failed(i)),
        manifest=manifest,
    )
