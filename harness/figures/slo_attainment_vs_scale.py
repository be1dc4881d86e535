"""Share of requests within the SLO as the SLO tightens, from saved requests (DistServe, Fig. 8, lower row)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness import comparison
from harness.figures import _curves, _style
from harness.figures._drawing import Drawing, Point, Scene, canvas, point, scenes
from harness.figures._rate import telling
from harness.statistics import repeats
from harness.statistics.value import Value
from thunderserve.serving.records import meets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.comparison import Group
    from harness.result import SweepResult
    from thunderserve.spec.slo import Slo

TITLE = "SLO attainment against the SLO's scale"
TARGET = 0.9
STEPS = 33


def draw(result: SweepResult) -> list[Drawing]:
    """One panel a workload, at the highest rate that a system still holds. No request is served again."""
    slo = comparison.slo_of(result, comparison.planning_label(result))
    ticks = sorted(
        {scale for cell in result.cells for judged in cell.judged if (scale := judged.slo.scale) is not None}
    )
    return [_draw(scene, slo, ticks, result) for scene in scenes(result)]


def _scales(ticks: Sequence[float]) -> list[float]:
    """From 1 (alone on the reference card, or the limits as given) to half beyond the widest that was asked for."""
    low, high = min([1.0, *ticks]), 1.5 * max([2.0, *ticks])
    return sorted({*np.geomspace(low, high, STEPS).tolist(), *ticks, 1.0})


def _draw(scene: Scene, slo: Slo, ticks: Sequence[float], result: SweepResult) -> Drawing:
    base = slo.scaled(1 / slo.scale) if slo.scale is not None else slo
    chosen = {workload: telling(scene.of(workload), comparison.planning_label(result)) for workload in scene.workloads}
    sheet = canvas([f"{name} · {_rate(rate)}" for name, rate in chosen.items()])
    points: list[Point] = []
    for panel, (workload, rate) in zip(sheet.panels, chosen.items(), strict=True):
        panel.axhline(TARGET * 100, color="#999999", linewidth=0.8, zorder=1)
        for system, backend in scene.series:
            for group in scene.of(workload, system, backend):
                if group.place.rate_per_s == rate:
                    points += _system(panel, scene, group, base, ticks)
                    _curves.handle(sheet, scene, system, backend)
        _scale_axis(panel, ticks)
    sheet.panels[0].set_ylabel("Requests within SLO (%)")
    alone = "one request alone on the reference card" if slo.scale is not None else "the limits as given"
    caption = (
        f"{TITLE}: every limit multiplied; scale 1 is {alone}. Computed from the saved requests, with 95 % intervals. "
        f"Grey line: {TARGET * 100:g} %; drops: the tightest scale that reaches it. {scene.origin(result.cells[0].commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(result.cells[0].commit)), points, caption)


def _rate(rate: float | None) -> str:
    return "replay" if rate is None else f"{rate:g} req/s"


def attainment(group: Group, slos: Sequence[Slo]) -> list[Value]:
    """Joint attainment of one group at each of ``slos``, over its seeds."""
    shares: list[list[float]] = [[] for _ in slos]
    for cell in group.cells:
        records, alone = comparison.saved(cell.folder)
        for row, slo in zip(shares, slos, strict=True):
            row.append(float(meets(records, slo.limits(alone)).joint.mean()))
    return [repeats.share(row, group.place.requests) for row in shares]


def _system(panel: Axes, scene: Scene, group: Group, base: Slo, ticks: Sequence[float]) -> list[Point]:
    scales = _scales(ticks)
    found = attainment(group, [base.scaled(scale) for scale in scales])
    look = scene.looks()[group.system]
    height = [(value.value or 0.0) * 100 for value in found]
    panel.plot(scales, height, color=look.color, linestyle=look.dash, zorder=3)
    spans = [value.interval or (0.0, 1.0) for value in found]
    panel.fill_between(
        scales, [s[0] * 100 for s in spans], [s[1] * 100 for s in spans], color=look.color, alpha=0.16, lw=0
    )
    marked = [(scale, y) for scale, y in zip(scales, height, strict=True) if scale in ticks]
    panel.plot(
        [scale for scale, _ in marked], [y for _, y in marked], linestyle="", marker=look.marker, zorder=4,
        markeredgecolor=look.color, markerfacecolor=_style.face(look.color, group.place.backend),
    )  # fmt: skip
    deadline = next((scale for scale, y in zip(scales, height, strict=True) if y >= TARGET * 100), None)
    if deadline is not None:
        panel.plot([deadline] * 2, [-2, TARGET * 100], color=look.color, linestyle=(0, (3, 2)), linewidth=0.8, zorder=2)
    return [
        point(group, scale=scale, share=value.value, low=span[0], high=span[1], tightest_scale_at_target=deadline)
        for scale, value, span in zip(scales, found, spans, strict=True)
    ]


def _scale_axis(panel: Axes, ticks: Sequence[float]) -> None:
    panel.set_xscale("log")
    shown = sorted({1.0, *ticks})
    panel.set_xticks(shown, [f"{tick:g}" for tick in shown])
    panel.set_xticks([], minor=True)
    panel.invert_xaxis()
    panel.set_xlabel("SLO scale (tighter to the right)")
    panel.set_ylim(-2, 103)
    panel.set_yticks([0, 25, 50, 75, 90, 100])
