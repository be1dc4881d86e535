"""Figures of the search bench: the best attainment so far over evaluations and over seconds, with bands over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.bench._search_runs import Budget, Run
from harness.figures import _style
from harness.statistics import repeats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAMILIES = {
    "tabu": "thunderserve",
    "multi-start": "vllm",
    "annealing": "distserve",
    "annealing + tabu": "distserve",
    "genetic": "hexgen",
    "genetic + tabu": "hexgen",
    "tabu + genetic": "hexgen",
    "optuna tpe": "hexgen2",
    "optuna random": "hexgen2",
    "learned": "splitwise",
    "learned + tabu": "splitwise",
    "clustered start": "thunderserve",
    "random start": "vllm",
}
"""Whose colour a method borrows: a hybrid has that of what it adds to tabu."""
POINTS = 60


def draw(runs: Sequence[Run], budget: Budget, caption: str, folder: Path, name: str) -> list[Path]:
    """A row a problem: evaluations left, CPU seconds right. Written as PDF and PNG."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(one.problem for one in runs))
    folder.mkdir(parents=True, exist_ok=True)
    with _style.paper():
        figure = Figure(figsize=(_style.TEXT_IN, 1.75 * len(problems) + 0.7), layout="constrained")
        grid = figure.subplots(len(problems), 2, squeeze=False, sharey="row")
        for row, problem in zip(grid, problems, strict=True):
            chosen = [one for one in runs if one.problem == problem]
            _panel(row[0], chosen, Run.at_evaluations, np.linspace(1, budget.evaluations, POINTS), "Evaluations")
            _panel(row[1], chosen, Run.at_seconds, np.linspace(0.02, budget.seconds, POINTS), "CPU seconds")
            row[0].set_title(problem, loc="left")
            row[0].set_ylabel("Best attainment")
            row[0].set_ylim(*_span(chosen, budget))
        _legend(figure, grid[0][0])
        figure.supxlabel(caption, fontsize=5, color="#777777")
        paths = [folder / f"{name}.{kind}" for kind in ("pdf", "png")]
        for path in paths:
            figure.savefig(path)
    return paths


def _panel(panel: Axes, runs: Sequence[Run], at: Callable[[Run, Any], float], axis: np.ndarray, label: str) -> None:
    looks = _style.looks((one.method, FAMILIES.get(one.method, one.method)) for one in runs)
    for method in dict.fromkeys(one.method for one in runs):
        own = [one for one in runs if one.method == method]
        values = [repeats.signed([at(one, value) for one in own]) for value in axis]
        mean = [value.value or 0.0 for value in values]
        spans = [value.interval or (value.value or 0.0,) * 2 for value in values]
        color, dash = looks[method].color, looks[method].dash
        panel.plot(axis, mean, color=color, linestyle=dash, label=method, zorder=4 if method == "tabu" else 3)
        low, high = np.clip(spans, 0.0, 1.0).T
        panel.fill_between(axis, low, high, color=color, alpha=0.12, lw=0)
    panel.set_xlabel(label)


def _span(runs: Sequence[Run], budget: Budget) -> tuple[float, float]:
    """From what half the runs have reached at a tenth of the budget, less a little, to the top."""
    early = [one.at_seconds(budget.seconds / 10) for one in runs]
    top = max(one.attainment[-1] for one in runs)
    low = float(np.quantile(early, 0.25))
    return max(0.0, low - 0.1 * (top - low)), min(1.005, top + 0.05 * (top - low) + 0.001)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5))
