"""Where a request's time goes, stage by stage (DistServe, Fig. 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness import comparison, notation
from harness.figures._drawing import Drawing, Point, Scene, canvas, point, scenes
from harness.sweep.backends import SIMULATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.comparison import Group
    from harness.figures._drawing import Canvas
    from harness.result import SweepResult
    from thunderserve.serving.records import Records

TITLE = "Latency by stage"
STAGES = {
    "prefill queue": "#DDCC77",
    "prefill": "#4477AA",
    "transfer queue": "#CCBB99",
    "KV transfer": "#AA3377",
    "decode": "#66AA88",
}


def draw(result: SweepResult) -> list[Drawing]:
    """One panel a workload, one bar a system and rate."""
    return [_draw(scene, result.cells[0].commit) for scene in scenes(result)]


def stages(records: Records) -> dict[str, float]:
    """Mean seconds a finished request spends in each stage; they add up to its mean E2E.

    Decode counts from the end of the transfer (from the first token where nothing moved), its own queue included: when
    decoding itself begins is not recorded.
    """
    done = records.finished
    if not done.any():
        return dict.fromkeys(STAGES, 0.0)
    moved = np.isfinite(records.transfer_end_s)
    leaves = np.where(moved, records.transfer_start_s, records.first_token_s)
    arrives = np.where(moved, records.transfer_end_s, records.first_token_s)
    parts = (
        records.prefill_start_s - records.arrival_s,
        records.first_token_s - records.prefill_start_s,
        leaves - records.first_token_s,
        arrives - leaves,
        records.finish_s - arrives,
    )
    return {name: float(part[done].mean()) for name, part in zip(STAGES, parts, strict=True)}


def _draw(scene: Scene, commit: str) -> Drawing:
    most = max(len(scene.of(workload)) for workload in scene.workloads)
    sheet = canvas(scene.workloads, height_in=0.5 + 0.145 * most, share_y=False, most_columns=2)
    points: list[Point] = []
    for panel, workload in zip(sheet.panels, scene.workloads, strict=True):
        rows = scene.of(workload)
        for place, group in enumerate(rows):
            points.append(_bar(panel, group, place))
        names = [f"{scene.name(group.system, group.place.backend)}  {_rate(group)}" for group in rows]
        panel.set_yticks(range(len(rows)), names)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_xlim(0, 100)
        panel.set_xlabel("Share of mean E2E (%)")
        panel.grid(visible=False, axis="y")
    _legend(sheet)
    caption = (
        f"{TITLE}: share of the mean end-to-end latency of finished requests, which stands beside each bar. Decode includes "
        f"its own queue. {scene.origin(commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(commit)), points, caption)


def _rate(group: Group) -> str:
    return "replay" if group.place.rate_per_s is None else f"{group.place.rate_per_s:g}/s"


def _bar(panel: Axes, group: Group, place: int) -> Point:
    found = [stages(comparison.saved(cell.folder)[0]) for cell in group.cells]
    means = {name: sum(one[name] for one in found) / len(found) for name in STAGES}
    total = sum(means.values())
    left = 0.0
    for name, mean in means.items():
        width = mean / total * 100 if total > 0 else 0.0
        hatch = "" if group.place.backend == SIMULATED else "////"
        panel.barh(place, width, 0.72, left=left, color=STAGES[name], edgecolor="white", linewidth=0.4, hatch=hatch)
        left += width
    panel.text(101, place, notation.seconds(total), va="center", ha="left", fontsize=6, color="#333333", clip_on=False)
    return point(
        group, **{f"{name.replace(' ', '_').lower()}_s": mean for name, mean in means.items()}, e2e_mean_s=total
    )


def _legend(sheet: Canvas) -> None:
    from matplotlib.patches import Patch

    for name, color in STAGES.items():
        sheet.handles[name] = Patch(facecolor=color)
