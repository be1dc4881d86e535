"""What a dollar buys: good requests, against the load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import comparison
from harness.figures import _curves
from harness.figures._drawing import Drawing, Point, Scene, canvas, point, rate_axis, scenes

if TYPE_CHECKING:
    from harness.result import SweepResult

TITLE = "Good requests for a dollar"
COLUMN = "goodput_per_usd"


def draw(result: SweepResult) -> list[Drawing]:
    """One panel a workload, at the SLO that plans were made for. Needs the metric ``cost`` in the sweep."""
    label = comparison.planning_label(result)
    with_rates = [scene for scene in scenes(result) if any(g.place.rate_per_s is not None for g in scene.groups)]
    priced = [s for s in with_rates if any(g.value(label, COLUMN).value is not None for g in s.groups)]
    return [_draw(scene, label, result.cells[0].commit) for scene in priced]


def _draw(scene: Scene, label: str, commit: str) -> Drawing:
    from matplotlib.lines import Line2D

    sheet = canvas(scene.workloads, share_y=False)
    points: list[Point] = []
    for panel, workload in zip(sheet.panels, scene.workloads, strict=True):
        rows = [group for group in scene.of(workload) if group.place.rate_per_s is not None]
        cheapest = min(group.cells[0].facts.price_per_hour for group in rows)
        all_good = {g.place.rate_per_s or 0.0: 3600 * (g.place.rate_per_s or 0.0) / cheapest for g in rows}
        panel.plot(list(all_good), list(all_good.values()), color="#999999", linewidth=0.8, linestyle=":", zorder=1)
        for system, backend in scene.series:
            row = scene.of(workload, system, backend)
            rates, values = _curves.values(row, label, COLUMN)
            if rates:
                _curves.curve(panel, rates, values, scene.looks()[system], backend)
                _curves.handle(sheet, scene, system, backend)
            points += [
                point(
                    group,
                    slo=label,
                    price_per_hour=group.cells[0].facts.price_per_hour,
                    good_requests_per_usd=value.value,
                )
                for group, value in zip(row, values, strict=False)
            ]
        rate_axis(panel, list(all_good))
        panel.set_ylim(bottom=0)
    sheet.panels[0].set_ylabel("Good requests / USD")
    sheet.handles["all good"] = Line2D([], [], color="#999999", linewidth=0.8, linestyle=":")
    prices = sorted({group.cells[0].facts.price_per_hour for group in scene.groups})
    caption = (
        f"{TITLE}: requests within SLO {label}, for each dollar of the cluster's rent "
        f"({', '.join(f'{price:.2f}' for price in prices)} USD/h), with 95 % intervals. Dotted: if every "
        f"request were good, at the lowest of these rents. "
        f"{scene.origin(commit)}."
    )
    return Drawing(scene.variant, sheet.finish(scene.origin(commit)), points, caption)
