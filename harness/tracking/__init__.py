"""Observers of a run. What is on disk is the truth; a tracker only tells others, and never harms a run."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.result import CellResult, SweepResult


class Tracker(Protocol):
    """Told of cells as they are finished, and of the sweep at its end."""

    def cell_finished(self, cell: CellResult) -> None:
        """A cell is on disk. Must return at once."""

    def sweep_finished(self, result: SweepResult, figures: Sequence[Path]) -> None:
        """All cells and figures are on disk. Cells nobody was told of, because a run was killed, are caught up with."""

    def close(self) -> None:
        """Wait for what is under way."""


class Settings(Protocol):
    """What a sweep says of Weights & Biases."""

    @property
    def mode(self) -> str:
        """``offline``, ``online`` or ``disabled``."""

    @property
    def project(self) -> str:
        """Name of the project there."""

    @property
    def entity(self) -> str | None:
        """User or team; None: the user's own."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Of every run."""


class Untracked:
    """Tells nobody."""

    def cell_finished(self, cell: CellResult) -> None:
        """Nobody is told."""

    def sweep_finished(self, result: SweepResult, figures: Sequence[Path]) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """Nothing is under way."""


def open_tracker(settings: Settings | None, folder: Path, name: str) -> Tracker:
    """The tracker a sweep asks for, writing below ``folder``/wandb. None, ``disabled`` or no wandb installed: no tracker.

    ``WANDB_MODE=disabled`` in the environment switches it off whatever the sweep says.
    """
    if settings is None or "disabled" in (settings.mode, os.environ.get("WANDB_MODE")):
        return Untracked()
    if importlib.util.find_spec("wandb") is None:
        warnings.warn("W&B is not tracked: pip install 'thunderserve[wandb]'", RuntimeWarning, stacklevel=2)
        return Untracked()
    from harness.tracking.wandb import Background

    return Background(settings, folder, name)
