"""Curves over the rate with their bands, the same in every figure that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.comparison import Group
from harness.figures import _style
from harness.figures._drawing import Canvas, Scene
from harness.statistics.value import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(
    panel: Axes, x: Sequence[float], values: Sequence[Value], look: _style.Look, backend: str, *, scale: float = 1.0
) -> None:
    """A solid line with its interval as a band and a marker a point, hollow where simulated."""
    import seaborn as sns

    known = [(at, value) for at, value in zip(x, values, strict=True) if value.value is not None]
    if not known:
        return
    at = [item[0] for item in known]
    height = [(value.value or 0.0) * scale for _, value in known]
    spans = [value.interval or (value.value or 0.0, value.value or 0.0) for _, value in known]
    panel.fill_between(
        at, [low * scale for low, _ in spans], [high * scale for _, high in spans], color=look.color, alpha=0.16, lw=0
    )
    sns.lineplot(
        x=at, y=height, ax=panel, color=look.color, linestyle=look.dash, marker=look.marker, legend=False,
        errorbar=None, markerfacecolor=_style.face(look.color, backend), markeredgecolor=look.color, zorder=3,
    )  # fmt: skip


def handle(canvas: Canvas, scene: Scene, system: str, backend: str) -> None:
    """Name a curve in the legend."""
    from matplotlib.lines import Line2D

    look = scene.looks()[system]
    canvas.handles[scene.name(system, backend)] = Line2D(
        [], [], color=look.color, linestyle=look.dash, marker=look.marker,
        markerfacecolor=_style.face(look.color, backend), markeredgecolor=look.color,
    )  # fmt: skip


def values(row: Sequence[Group], label: str, column: str) -> tuple[list[float], list[Value]]:
    """(rates, values) of one curve, by rate."""
    known = [group for group in row if group.place.rate_per_s is not None]
    return [group.place.rate_per_s or 0.0 for group in known], [group.value(label, column) for group in known]
