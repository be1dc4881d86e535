"""What a figure module gives back, and the frame they share: panels by workload, legend above, origin below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import comparison
from harness.comparison import Group, Place
from harness.figures import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.result import SweepResult

Point = dict[str, str | float | int | None]


@dataclass(frozen=True)
class Drawing:
    """One figure with the table of its points and the words under it."""

    variant: str
    """What sets it apart from others of the same module; empty when there is one."""
    figure: Figure
    points: list[Point]
    caption: str


class Scene(NamedTuple):
    """What belongs into one figure: all systems and workloads of one cluster, catalogue and model."""

    variant: str
    groups: tuple[Group, ...]

    @property
    def workloads(self) -> list[str]:
        return list(dict.fromkeys(group.place.workload for group in self.groups))

    @property
    def series(self) -> list[tuple[str, str]]:
        """(system, backend) pairs, each one curve."""
        return list(dict.fromkeys((group.system, group.place.backend) for group in self.groups))

    def of(self, workload: str, system: str | None = None, backend: str | None = None) -> list[Group]:
        """The groups of a panel, or of one curve in it, by rate."""
        chosen = [
            group
            for group in self.groups
            if group.place.workload == workload
            and system in (None, group.system)
            and backend in (None, group.place.backend)
        ]
        return sorted(chosen, key=lambda group: group.place.rate_per_s or 0.0)

    def looks(self) -> dict[str, _style.Look]:
        """How each system is drawn."""
        return _style.looks((group.system, group.family) for group in self.groups)

    def name(self, system: str, backend: str) -> str:
        """What a legend calls a curve."""
        return system if len({name for _, name in self.series}) == 1 else f"{system} ({backend})"

    def origin(self, commit: str) -> str:
        """Backend, hardware, sample and code: what a reader must know of every figure."""
        first = self.groups[0]
        backends = " and ".join(dict.fromkeys(name for _, name in self.series))
        seeds = sorted({len(group.cells) for group in self.groups})
        repeats = (
            f"{'-'.join(map(str, (seeds[0], seeds[-1]) if len(seeds) > 1 else seeds))} seed{'s' * (seeds[-1] > 1)}"
        )
        place = first.place
        return (
            f"{backends} · {place.cluster}, {place.catalogue} catalogue · {place.model} · {repeats} × "
            f"{place.requests:,} requests · commit {commit[:10] or 'unknown'}"
        )


def scenes(result: SweepResult, *, capacity: bool | None = False) -> Iterator[Scene]:
    """Split a sweep into figures. ``capacity`` picks the cells that searched for one (None: all cells)."""
    found: dict[Place, list[Group]] = {}
    for group in comparison.groups(result):
        if capacity is None or comparison.is_capacity(group.cells[0]) == capacity:
            found.setdefault(group.place.setting._replace(backend="", workload=""), []).append(group)
    for place, groups in found.items():
        parts = [getattr(place, name) for name in ("cluster", "catalogue", "model") if _varies(found, name)]
        yield Scene("-".join(parts), tuple(groups))


def _varies(places: dict[Place, list[Group]], name: str) -> bool:
    return len({getattr(place, name) for place in places}) > 1


@dataclass
class Canvas:
    """An empty figure with one panel an entry of ``titles``, and room for legend and origin."""

    figure: Figure
    panels: list[Axes]
    handles: dict[str, Artist] = field(default_factory=dict)

    def finish(self, origin: str) -> Figure:
        """Add the legend above the panels and the line of origin below them."""
        if self.handles:
            width = self.figure.get_size_inches()[0]
            longest = max(map(len, self.handles))
            columns = max(1, min(len(self.handles), int(width / (0.42 + 0.062 * longest))))
            rows = math.ceil(len(self.handles) / columns)
            columns = math.ceil(len(self.handles) / rows)
            self.figure.legend(
                list(self.handles.values()), list(self.handles), loc="outside upper center", ncols=columns
            )
        lines = _folded(origin, int(self.figure.get_size_inches()[0] * 24))
        height = self.figure.get_size_inches()[1]
        room = (0.11 * len(lines) + 0.03) / height
        engine = self.figure.get_layout_engine()
        if engine is not None:
            engine.set(rect=(0, room, 1, 1 - room))  # type: ignore[call-arg]
        self.figure.text(0.5, 0.02 / height, "\n".join(lines), ha="center", va="bottom", fontsize=5, color="#777777")
        return self.figure


def canvas(titles: Sequence[str], *, height_in: float = 1.75, share_y: bool = True, most_columns: int = 3) -> Canvas:
    """One column wide for one panel, text wide for more; at most ``most_columns`` beside each other."""
    from matplotlib.figure import Figure

    columns = min(len(titles), most_columns)
    rows = math.ceil(len(titles) / columns)
    width = _style.COLUMN_IN if columns == 1 else _style.TEXT_IN
    figure = Figure(figsize=(width, height_in * rows + 0.55), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    panels = list(grid.flat)
    for panel, title in zip(panels, titles, strict=False):
        panel.set_title(title)
    for unused in panels[len(titles) :]:
        unused.remove()
    return Canvas(figure, panels[: len(titles)])


def _folded(text: str, width: int) -> list[str]:
    lines = [""]
    for part in text.split(" · "):
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(longer) > width and lines[-1]:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def is_wide(rates: Sequence[float]) -> bool:
    """Whether these rates are drawn on a logarithmic axis."""
    return len(set(rates)) > 2 and max(rates) / min(rates) >= 8


def rate_axis(panel: Axes, rates: Sequence[float]) -> None:
    """Requests a second; doubling steps are spaced evenly."""
    known = sorted(set(rates))
    if is_wide(known):
        panel.set_xscale("log", base=2)
    panel.set_xticks(_thinned(known), [f"{rate:g}" for rate in _thinned(known)])
    panel.set_xlabel("Offered rate (req/s)")


def _thinned(values: list[float], most: int = 9) -> list[float]:
    step = math.ceil(len(values) / most)
    return values[::step]


def point(group: Group, **values: Any) -> Point:
    """A row of the table of points: where it lies, and its ``values``."""
    place = group.place
    where: Point = {
        "system": group.system,
        "backend": place.backend,
        "cluster": place.cluster,
        "catalogue": place.catalogue,
        "model": place.model,
        "workload": place.workload,
        "rate_per_s": place.rate_per_s,
        "seeds": len(group.cells),
        "requests": place.requests,
    }
    return where | values


def settle(figure: Figure) -> None:
    """Lay the figure out once and for all, on a grid of a 10,000th of its size.

    The layout's solver ends at places that differ in the last digits from time to time; the same results shall be the same bytes.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(float(edge), 4) for edge in axes.get_position().bounds])  # type: ignore[arg-type]
