"""Weights & Biases: one run a cell and one of the sweep, written by a process of its own while cells are served."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tracking.wandb_sweep import write_wandb_sweep

if TYPE_CHECKING:
    from harness.result import CellResult, SweepResult
    from harness.tracking import Settings

PATIENCE_S = 300.0
"""How long a run waits for its tracker at the end."""


class Background:
    """Hands finished cells to ``harness.tracking.worker`` by their ids, one JSON line each; starts it when there is a first.

    Importing wandb takes seconds, so it happens there, beside the simulation. A cell that is tracked has a marker below
    ``wandb/tracked`` and is not tracked again. The worker ends when its input does, also when this process is killed.
    """

    def __init__(self, settings: Settings, folder: Path, name: str) -> None:
        self._settings = settings
        self._folder = folder
        self._name = name
        self._worker: subprocess.Popen[str] | None = None
        self._sent: set[str] = set()
        self._broken = False

    def cell_finished(self, cell: CellResult) -> None:
        """Pass the cell on, unless it has been tracked as it is."""
        run = run_id(cell.folder, cell.id)
        if run not in self._sent and not marker(self._folder, run, self._settings.mode).exists():
            self._sent.add(run)
            self._send({"cell": cell.id, "run": run})

    def sweep_finished(self, result: SweepResult, figures: Sequence[Path]) -> None:
        """Pass on what was missed, then the sweep's own run, unless that very sweep has been tracked."""
        write_wandb_sweep(result.folder, self._settings.project)
        for cell in result.cells:
            self.cell_finished(cell)
        runs = [run_id(cell.folder, cell.id) for cell in result.cells]
        run = "sweep-" + hashlib.sha256("\n".join([self._name, *runs]).encode()).hexdigest()[:16]
        if result.cells and not marker(self._folder, run, self._settings.mode).exists():
            pictures = [str(path.resolve()) for path in figures if path.suffix == ".png"]
            self._send({"sweep": self._name, "run": run, "figures": pictures})

    def close(self) -> None:
        """Wait for the worker, and say in one warning what it could not do."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            told, _ = worker.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
            self._warn(f"it took longer than {PATIENCE_S:.0f} s; run again to track the rest")
            return
        except OSError as error:
            self._warn(str(error))
            return
        problems = [line for line in told.splitlines() if line.strip()]
        if worker.returncode and not problems:
            problems = [f"its process ended with code {worker.returncode}; see {self._log()}"]
        if problems:
            self._warn(problems[0])

    def _send(self, message: dict[str, Any]) -> None:
        if self._broken:
            return
        try:
            if self._worker is None:
                self._worker = self._start()
            if self._worker.stdin is not None:
                self._worker.stdin.write(json.dumps(message) + "\n")
                self._worker.stdin.flush()
        except OSError as error:
            self._warn(str(error))

    def _warn(self, reason: str) -> None:
        if not self._broken:
            self._broken = True
            warnings.warn(f"W&B is not fully tracked: {reason}", RuntimeWarning, stacklevel=3)

    def _log(self) -> Path:
        return self._folder / "wandb" / "worker.log"

    def _start(self) -> subprocess.Popen[str]:
        self._log().parent.mkdir(parents=True, exist_ok=True)
        settings = {name: getattr(self._settings, name) for name in ("mode", "project", "entity", "tags")}
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        with self._log().open("a", encoding="utf-8") as log:
            return subprocess.Popen(  # noqa: S603 our own interpreter and module
                [sys.executable, "-m", "harness.tracking.worker", str(self._folder.resolve()), json.dumps(settings)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
            )  # fmt: skip


def run_id(folder: Path, cell_id: str) -> str:
    """The W&B id of a cell: the same for the same summary, so that no sync makes it twice."""
    try:
        summary = (folder / "summary.json").read_bytes()
    except OSError:
        summary = b""
    return f"{cell_id}-{hashlib.sha256(summary).hexdigest()[:8]}"


def marker(folder: Path, run: str, mode: str) -> Path:
    """The file that says a run has been tracked in that mode."""
    return folder / "wandb" / "tracked" / f"{run}.{mode}"
