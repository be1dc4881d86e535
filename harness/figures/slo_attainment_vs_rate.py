"""Share of requests within the SLO as the load grows: joint, and for TTFT and TPOT alone (DistServe, Fig. 8, upper row)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness import comparison
from harness.figures import _curves
from harness.figures._drawing import Canvas, Drawing, Point, Scene, canvas, is_wide, point, rate_axis, scenes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.comparison import Group
    from harness.result import SweepResult

TITLE = "SLO attainment against the offered rate"
TARGET = 0.9
KINDS = {"slo_attainment": "-", "slo_attainment_ttft": ":", "slo_attainment_tpot": "--"}


def draw(result: SweepResult) -> list[Drawing]:
    """One panel a workload, at the SLO that plans were made for."""
    label = comparison.planning_label(result)
    return [_draw(scene, label, result.cells[0].commit) for scene in scenes(result) if _rates(scene.groups)]


def _rates(groups: Sequence[Group]) -> list[float]:
    return [group.place.rate_per_s for group in groups if group.place.rate_per_s is not None]


def _draw(scene: Scene, label: str, commit: str) -> Drawing:
    sheet = canvas(scene.workloads)
    points: list[Point] = []
    for panel, workload in zip(sheet.panels, scene.workloads, strict=True):
        panel.axhline(TARGET * 100, color="#999999", linewidth=0.8, zorder=1)
        for system, backend in scene.series:
            row = [group for group in scene.of(workload, system, backend) if group.place.rate_per_s is not None]
            if row:
                points += _system(panel, scene, row, label)
                _curves.handle(sheet, scene, system, backend)
        rate_axis(panel, _rates(scene.of(workload)))
        panel.set_ylim(-2, 103)
        panel.set_yticks([0, 25, 50, 75, 90, 100])
    sheet.panels[0].set_ylabel("Requests within SLO (%)")
    _kinds(sheet)
    caption = (
        f"{TITLE}, SLO {label}. Solid with markers: TTFT, TPOT and E2E together, with 95 % intervals; dotted: TTFT alone; "
        f"dashed: TPOT alone. Grey line: {TARGET * 100:g} %; drops: the rate at which the joint share crosses it, interpolated. "
        f"{scene.origin(commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(commit)), points, caption)


def _system(panel: Axes, scene: Scene, row: Sequence[Group], label: str) -> list[Point]:
    look = scene.looks()[row[0].system]
    rates, joint = _curves.values(row, label, "slo_attainment")
    for column in ("slo_attainment_ttft", "slo_attainment_tpot"):
        at, found = _curves.values(row, label, column)
        height = [None if value.value is None else value.value * 100 for value in found]
        if None not in height:
            panel.plot(at, height, color=look.color, linestyle=KINDS[column], linewidth=0.9, alpha=0.75, zorder=2)  # type: ignore[arg-type]
    _curves.curve(panel, rates, joint, look._replace(dash="-"), row[0].place.backend, scale=100)
    crossing = crossed(rates, [value.value for value in joint], TARGET)
    if crossing is not None:
        panel.plot([crossing] * 2, [-2, TARGET * 100], color=look.color, linestyle=(0, (3, 2)), linewidth=0.8, zorder=2)
    return [
        point(group, slo=label, kind=column, share=value.value, low=(value.interval or (None, None))[0],
              high=(value.interval or (None, None))[1], rate_at_target=crossing)
        for group in row
        for column in KINDS
        for value in [group.value(label, column)]
    ]  # fmt: skip


def crossed(x: Sequence[float], shares: Sequence[float | None], target: float) -> float | None:
    """Where the line through the points first falls below ``target``; None if it starts below it or never does.

    Interpolated on the axis that is drawn: linear, or logarithmic for a wide range.
    """
    known = [(at, share) for at, share in zip(x, shares, strict=True) if share is not None]
    for (left, above), (right, below) in itertools.pairwise(known):
        if above < target:
            return None
        if below < target:
            part = (above - target) / (above - below)
            return float(left * (right / left) ** part if is_wide(x) else left + (right - left) * part)
    return None


def _kinds(sheet: Canvas) -> None:
    from matplotlib.lines import Line2D

    dashes: tuple[tuple[str, Literal["-", ":", "--"]], ...] = (
        ("all limits", "-"),
        ("TTFT alone", ":"),
        ("TPOT alone", "--"),
    )
    for name, dash in dashes:
        sheet.handles[name] = Line2D([], [], color="#666666", linestyle=dash, linewidth=1.0)
