"""The highest rate that holds, by system and SLO: searched for, or else the highest that was swept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import comparison
from harness.figures import _bars
from harness.figures._drawing import Drawing, Point, Scene, canvas, scenes
from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.comparison import Group
    from harness.result import SweepResult

TITLE = "Capacity"
TARGET = 0.9


def draw(result: SweepResult) -> list[Drawing]:
    """One panel a workload, bars by SLO. Whiskers are brackets: the next rate that was tried and did not hold."""
    searched = list(scenes(result, capacity=True))
    found = searched or [s for s in scenes(result) if len({g.place.rate_per_s for g in s.groups}) > 1]
    return [_draw(scene, result, searched=bool(searched)) for scene in found]


def value_of(row: list[Group], label: str, *, searched: bool) -> Value | None:
    """Capacity of one system at one workload and SLO, with its bracket (over seeds: its 95 % interval)."""
    if not searched:
        found = comparison.holding(row, label, TARGET)
        low = found.holds or 0.0
        return Value(low, (low, found.fails or low)) if row else None
    for group in row:
        for name in (
            name for judged in group.judged(label) for name in judged.metrics if name.startswith(comparison.CAPACITY)
        ):
            return group.value(label, name)
    return None


def _draw(scene: Scene, result: SweepResult, *, searched: bool) -> Drawing:
    labels = comparison.labels(result)
    sheet = canvas(scene.workloads, share_y=False)
    points: list[Point] = []
    width = _bars.FILLED / len(scene.series)
    for panel, workload in zip(sheet.panels, scene.workloads, strict=True):
        for index, (system, backend) in enumerate(scene.series):
            row = scene.of(workload, system, backend)
            for position, label in enumerate(labels):
                found = value_of(row, label, searched=searched)
                if found is None:
                    continue
                middle = position + (index - (len(scene.series) - 1) / 2) * width
                _bars.bar(panel, scene, row[0], (middle, width * 0.9), found)
                _bars.handle(sheet, scene, row[0])
                low, high = found.interval or (None, None)
                where: Point = {"system": system, "backend": backend, "workload": workload, "slo": label}
                points.append(where | {"capacity_per_s": found.value, "low_per_s": low, "high_per_s": high})
        panel.set_xticks(range(len(labels)), labels)
        panel.set_xlabel("SLO")
        panel.set_ylim(bottom=0)
        panel.grid(visible=False, axis="x")
    sheet.panels[0].set_ylabel("Capacity (req/s)")
    commit = result.cells[0].commit
    how = "searched by bisection" if searched else "of the rates that were swept"
    caption = (
        f"{TITLE}: the highest rate, {how}, at which {TARGET * 100:g} % of requests are within the SLO. Whiskers reach to "
        f"the next rate, which did not hold (several searches: 95 % interval over seeds). {scene.origin(commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(commit)), points, caption)
