"""Tokens served a second, beside the tokens that were offered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.figures import _bars
from harness.figures._drawing import Drawing, Point, Scene, canvas, point, scenes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.comparison import Group
    from harness.result import SweepResult

TITLE = "Throughput, input and output tokens"
COLUMN = "throughput_tokens_per_s"


def draw(result: SweepResult) -> list[Drawing]:
    """One panel a workload, bars by rate."""
    return [_draw(scene, result.cells[0].commit) for scene in scenes(result)]


def _draw(scene: Scene, commit: str) -> Drawing:
    sheet = canvas(scene.workloads, share_y=False)
    points: list[Point] = []
    for panel, workload in zip(sheet.panels, scene.workloads, strict=True):
        rows = scene.of(workload)
        slots = _bars.slots(scene, rows)
        for group, (middle, width) in slots:
            points.append(_bar(panel, scene, group, middle, width))
            _bars.handle(sheet, scene, group)
        _bars.rate_labels(panel, rows)
        panel.set_ylim(bottom=0)
    sheet.panels[0].set_ylabel("Thousand tokens/s")
    _bars.offered_handle(sheet)
    caption = (
        f"{TITLE}, over the time from 0 to the last token, with 95 % intervals. Black ticks: what was offered while requests "
        f"arrived; a bar below its tick fell behind. {scene.origin(commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(commit)), points, caption)


def offered_tokens_per_s(group: Group) -> float:
    """Prompt and output tokens that arrive a second, over all seeds."""
    rates = [
        cell.facts.offered_rate_per_s * (cell.facts.prompt_tokens + cell.facts.output_tokens) / cell.axes.requests
        for cell in group.cells
    ]
    return sum(rates) / len(rates)


def _bar(panel: Axes, scene: Scene, group: Group, middle: float, width: float) -> Point:
    value = group.value(group.labels[0], COLUMN)
    offered = offered_tokens_per_s(group)
    _bars.bar(panel, scene, group, (middle, width), value, scale=1e-3)
    panel.plot([middle - width / 2, middle + width / 2], [offered / 1e3] * 2, color="black", linewidth=1.0, zorder=4)
    low, high = value.interval or (None, None)
    return point(group, tokens_per_s=value.value, low=low, high=high, offered_tokens_per_s=offered)
