"""What the systems were asked: prompt and output lengths, and how evenly requests came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from harness import comparison
from harness.figures._drawing import Drawing, Point, Scene, canvas, scenes
from harness.figures.latency_cdf import cumulative

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.result import CellResult, SweepResult

TITLE = "The requests"
COLORS = ("#332288", "#CC6677", "#117733", "#AA7700", "#44AA99", "#882255", "#555555", "#88CCEE")
DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
PANELS = {"prompt": "Prompt length (tokens)", "output": "Output length (tokens)", "gap": "Gap / mean gap"}


def draw(result: SweepResult) -> list[Drawing]:
    """Three panels: lengths of prompts, of outputs, and gaps between arrivals in units of their mean."""
    return [_draw(scene, result.cells[0].commit) for scene in list(scenes(result, capacity=None))[:1]]


def _draw(scene: Scene, commit: str) -> Drawing:
    from matplotlib.lines import Line2D

    sheet = canvas(["Prompts", "Outputs", "Arrivals"], height_in=1.5)
    points: list[Point] = []
    for index, workload in enumerate(scene.workloads):
        color, dash = COLORS[index % len(COLORS)], DASHES[index % len(DASHES)]
        cells = _distinct([cell for group in scene.of(workload) for cell in group.cells])
        values = _values(cells)
        for panel, kind in zip(sheet.panels, PANELS, strict=True):
            x, share = cumulative(values[kind], len(values[kind]))
            panel.step(x, share, where="post", color=color, linestyle=dash)
            points += [
                {"workload": workload, "of": kind, "value": float(a), "percent": float(b)}
                for a, b in zip(x, share, strict=True)
            ]
        sizes = f"{values['prompt'].mean():.0f} in, {values['output'].mean():.0f} out"
        sheet.handles[f"{workload} (mean {sizes})"] = Line2D([], [], color=color, linestyle=dash)
    _axes(sheet.panels)
    sheet.handles["Poisson"] = Line2D([], [], color="#aaaaaa", linewidth=2.5)
    caption = (
        f"{TITLE}: distributions over all schedules of the sweep. Grey: the gaps of a Poisson process. "
        f"{scene.origin(commit)}."
    )
    return Drawing("", sheet.finish(scene.origin(commit)), points, caption)


def _distinct(cells: list[CellResult]) -> list[CellResult]:
    """One cell for each schedule: rivals were given the same requests."""
    return list({cell.facts.workload_hash: cell for cell in cells}.values())


def _values(cells: list[CellResult]) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in PANELS}
    for cell in cells:
        records, _ = comparison.saved(cell.folder)
        gaps = np.diff(records.arrival_s)
        found["prompt"].append(records.prompt_tokens.astype(np.float64))
        found["output"].append(records.output_tokens.astype(np.float64))
        found["gap"].append(gaps / gaps.mean() if len(gaps) and gaps.mean() > 0 else gaps)
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def _axes(panels: list[Axes]) -> None:
    gaps = np.linspace(0, 6, 100)
    panels[2].plot(gaps, 100 * (1 - np.exp(-gaps)), color="#aaaaaa", linewidth=2.5, zorder=1)
    panels[2].set_xlim(0, 6)
    for panel, label in zip(panels, PANELS.values(), strict=True):
        panel.set_xlabel(label)
        panel.set_ylim(0, 102)
    for panel in panels[:2]:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(lambda _value, _: "")
    panels[0].set_ylabel("Requests (%)")
