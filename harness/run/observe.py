"""Those who watch a run: figures, report and trackers. Whatever befalls them is a warning, and never harms the results."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from harness import tracking
from harness.result import SweepResult
from harness.run import drawn
from harness.run.finish import Finish
from harness.store import load
from harness.store.layout import Store
from harness.sweep.cells import Job
from harness.sweep.resolve import Resolved


def guarded(words: str, act: Callable[[], None]) -> list[str]:
    """Do ``act``; what it warns of and what it fails with, in words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", RuntimeWarning)
        failed: list[str] = []
        try:
            act()
        except Exception as error:
            failed.append(f"{words}: {type(error).__name__}: {error}")
    return [str(item.message) for item in caught if issubclass(item.category, RuntimeWarning)] + failed


@dataclass
class Observers:
    """The tracker that a sweep asks for, told of cells as they are finished, and of the end."""

    store: Store
    resolved: Resolved
    commit: str
    warned: list[str] = field(default_factory=list)
    _tracker: tracking.Tracker = field(default_factory=tracking.Untracked)

    def begin(self) -> None:
        """Open the tracker."""

        def start() -> None:
            self._tracker = tracking.open_tracker(sweep.wandb, self.store.folder, sweep.name)

        sweep = self.resolved.sweep
        self.warned += guarded("W&B is not tracked", start)

    def cell(self, job: Job) -> None:
        """A cell is on disk."""
        self.warned += guarded(
            "W&B", lambda: self._tracker.cell_finished(load.cell(self.store, job.id, commit=self.commit))
        )

    def end(self, finish: Finish) -> None:
        """All cells are on disk: draw figures, write the report, and tell the tracker."""
        result, names = finish.result, self.resolved.sweep.figures
        if names:
            self.warned += guarded("no figures were drawn", lambda: _draw(finish, result, names))
        self.warned += guarded("no report was written", lambda: _report(finish, result))
        self.warned += guarded("W&B", lambda: self._tracker.sweep_finished(result, finish.figures))

    def close(self) -> None:
        """Wait for the tracker."""
        self.warned += guarded("W&B", self._tracker.close)


def _draw(finish: Finish, result: SweepResult, names: tuple[str, ...]) -> None:
    kept = drawn.already(result, names)
    if kept is not None:
        finish.figures = kept
        return
    from harness import figures

    finish.figures = figures.draw_all(result, names, result.folder / "figures")
    drawn.remember(result, names, finish.figures)


def _report(finish: Finish, result: SweepResult) -> None:
    from harness.report import write_report

    finish.report = write_report(result, finish.figures)
