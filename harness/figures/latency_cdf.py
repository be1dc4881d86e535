"""How TTFT, TPOT and E2E are spread over the requests, at one rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness import comparison
from harness.figures import _curves, _style
from harness.figures._drawing import Drawing, Point, Scene, canvas, point, scenes
from harness.figures._rate import telling

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.comparison import Group
    from harness.result import SweepResult

TITLE = "Latency distributions"
KINDS = ("ttft", "tpot", "e2e")
STEPS = 200


def draw(result: SweepResult) -> list[Drawing]:
    """A row of three panels a workload: TTFT, TPOT, E2E, all seeds together."""
    return [_draw(scene, comparison.planning_label(result), result.cells[0].commit) for scene in scenes(result)]


def _draw(scene: Scene, label: str, commit: str) -> Drawing:
    chosen = {workload: telling(scene.of(workload), label) for workload in scene.workloads}
    titles = [
        f"{name} · {'replay' if rate is None else f'{rate:g} req/s'}" for name, rate in chosen.items() for _ in KINDS
    ]
    sheet = canvas(titles, height_in=1.55)
    points: list[Point] = []
    for index, panel in enumerate(sheet.panels):
        workload, rate = list(chosen.items())[index // len(KINDS)]
        kind = KINDS[index % len(KINDS)]
        for system, backend in scene.series:
            for group in scene.of(workload, system, backend):
                if group.place.rate_per_s == rate:
                    points += _distribution(panel, scene, group, kind)
                    _curves.handle(sheet, scene, system, backend)
        _axes(panel, kind, first=index % len(KINDS) == 0)
    caption = (
        f"{TITLE}, all seeds together; the denominator is every request offered, so a curve that ends below 100 % lost some "
        f"(TPOT: every request of two tokens or more). {scene.origin(commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(commit)), points, caption)


def cumulative(values: NDArray[np.float64], offered: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most 200 points (x, percent of ``offered`` with at most x) of the distribution of ``values``; NaN never arrives."""
    ordered = np.sort(values[np.isfinite(values)])
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(STEPS, len(ordered))).round().astype(np.int64))
    return ordered[ranks], (ranks + 1) / max(offered, 1) * 100


def _distribution(panel: Axes, scene: Scene, group: Group, kind: str) -> list[Point]:
    parts, offered = [], 0
    for cell in group.cells:
        records, _ = comparison.saved(cell.folder)
        parts.append(getattr(records.latencies, f"{kind}_s"))
        offered += int(np.sum(records.output_tokens > 1)) if kind == "tpot" else len(records)
    x, share = cumulative(np.concatenate(parts), offered)
    look = scene.looks()[group.system]
    panel.step(x, share, where="post", color=look.color, linestyle=look.dash)
    panel.plot(
        x[:: max(1, len(x) // 5)], share[:: max(1, len(x) // 5)], linestyle="", marker=look.marker, markersize=3.2,
        markeredgecolor=look.color, markerfacecolor=_style.face(look.color, group.place.backend),
    )  # fmt: skip
    return [point(group, latency=kind, seconds=float(at), percent=float(y)) for at, y in zip(x, share, strict=True)]


def _axes(panel: Axes, kind: str, *, first: bool) -> None:
    from matplotlib.ticker import LogLocator

    lines = [np.asarray(line.get_xdata(), np.float64) for line in panel.get_lines()]
    known = np.concatenate([np.ravel(line[line > 0]) for line in lines] or [np.array([])])
    if len(known):
        low, high = float(known.min()), float(known.max())
        if high / low > 8:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_formatter(lambda _value, _: "")
        panel.set_xlim(low * 0.9, high * 1.1)
    panel.set_xlabel(f"{kind.upper()} (s)")
    panel.set_ylim(0, 102)
    panel.set_yticks([0, 25, 50, 75, 90, 100])
    if first:
        panel.set_ylabel("Requests (%)")
