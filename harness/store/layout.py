"""Where what lies in a results folder, and which cells of it are done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.store import atomic

SERVED = ("requests.parquet", "plan.json")
"""The files of a cell whose digests ``cell.json`` carries (``probes.json`` too, in a capacity search)."""


@dataclass(frozen=True)
class Store:
    """A results folder. See ``docs/harness.md`` for the files in it."""

    folder: Path

    @property
    def schedules(self) -> Path:
        """The requests, made once."""
        return self.folder / "schedules"

    @property
    def plans(self) -> Path:
        """One plan a system, cluster, model, workload and rate."""
        return self.folder / "plans"

    @property
    def figures(self) -> Path:
        """Where figures go."""
        return self.folder / "figures"

    @property
    def manifest(self) -> Path:
        """By what, when and from what it was made."""
        return self.folder / "manifest.json"

    @property
    def resolved(self) -> Path:
        """The sweep with every name looked up, and the list of its cells."""
        return self.folder / "resolved.json"

    def cell(self, cell_id: str) -> Path:
        """The folder of a finished cell."""
        return self.folder / "cells" / cell_id

    def failure(self, cell_id: str) -> Path:
        """The folder of a failed cell."""
        return self.folder / "failed" / cell_id

    def has_failed(self, cell_id: str) -> bool:
        """Whether the failure of a cell is on record."""
        return (self.failure(cell_id) / "failure.json").is_file()

    def flaw(self, cell_id: str) -> str:
        """Why a cell does not count as served: a file is missing, does not parse, or was changed. Empty when it does."""
        folder = self.cell(cell_id)
        if not folder.is_dir():
            return "is not there"
        try:
            record = atomic.read_json(folder / "cell.json")
            if record["id"] != cell_id:
                return f"cell.json is that of {record['id']}"
            for name, expected in record["files"].items():
                if atomic.file_digest(folder / name) != expected:
                    return f"{name} is not what was written"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"cell.json or a file it lists cannot be read: {error}"
        return ""

    def is_served(self, cell_id: str) -> bool:
        """Whether the records of a cell are on disk, whole."""
        return not self.flaw(cell_id)

    def judged_with(self, cell_id: str) -> str:
        """What the summary of a cell was computed with; empty when there is none."""
        try:
            return str(atomic.read_json(self.cell(cell_id) / "summary.json")["judging"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def sweep_up(self) -> None:
        """Remove what killed runs left half written."""
        for parent in (self.folder, self.folder / "cells", self.folder / "failed", self.schedules, self.plans):
            if parent.is_dir():
                atomic.sweep_up(parent)

    def expected(self) -> list[dict[str, Any]]:
        """The cells of the last run's sweep, as ``resolved.json`` lists them. Raises SpecError when there is no run here."""
        from thunderserve.spec.errors import SpecError

        try:
            cells: list[dict[str, Any]] = atomic.read_json(self.resolved)["cells"]
        except OSError:
            raise SpecError(
                "is not a results folder: it has no resolved.json", file=self.folder, remedy="give the folder of a run"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise SpecError(f"cannot be read: {error}", file=self.resolved, remedy="run the sweep again") from None
        return cells
