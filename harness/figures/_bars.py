"""Bars side by side: one cluster of bars a rate, one bar a system, pale where simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.comparison import Group
from harness.figures import _style
from harness.figures._drawing import Canvas, Scene
from harness.statistics.value import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILLED = 0.8
"""Share of the axis that bars take."""


def slots(scene: Scene, rows: Sequence[Group]) -> Iterator[tuple[Group, tuple[float, float]]]:
    """Each group with (middle, width) of its bar: rates at 0, 1, 2 ..., series beside each other."""
    rates = list(dict.fromkeys(group.place.rate_per_s for group in rows))
    width = FILLED / len(scene.series)
    for group in rows:
        index = scene.series.index((group.system, group.place.backend))
        middle = rates.index(group.place.rate_per_s) + (index - (len(scene.series) - 1) / 2) * width
        yield group, (middle, width * 0.9)


def bar(
    panel: Axes, scene: Scene, group: Group, slot: tuple[float, float], value: Value, *, scale: float = 1.0
) -> None:
    """One bar with its interval as a whisker; nothing where there is no value."""
    if value.value is None:
        return
    middle, width = slot
    color = scene.looks()[group.system].color
    height = value.value * scale
    panel.bar(middle, height, width, zorder=2, **_style.bar(color, group.place.backend))
    if value.interval is not None:
        arms = [[height - value.interval[0] * scale], [value.interval[1] * scale - height]]
        panel.errorbar(
            [middle], [height], yerr=arms, color="#333333", linewidth=0.7, capsize=1.5, capthick=0.7, zorder=3
        )


def handle(canvas: Canvas, scene: Scene, group: Group) -> None:
    """Name a system in the legend."""
    from matplotlib.patches import Patch

    color = scene.looks()[group.system].color
    name = scene.name(group.system, group.place.backend)
    canvas.handles[name] = Patch(**_style.bar(color, group.place.backend))


def offered_handle(canvas: Canvas) -> None:
    """Name the black ticks in the legend."""
    from matplotlib.lines import Line2D

    canvas.handles["offered"] = Line2D([], [], color="black", linewidth=1.0)


def rate_labels(panel: Axes, rows: Sequence[Group]) -> None:
    """The rates below their clusters of bars."""
    rates = list(dict.fromkeys(group.place.rate_per_s for group in rows))
    panel.set_xticks(range(len(rates)), ["replay" if rate is None else f"{rate:g}" for rate in rates])
    panel.set_xlabel("Offered rate (req/s)")
    panel.grid(visible=False, axis="x")
