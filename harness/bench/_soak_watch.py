"""What a soak looks at: memory, threads and files of every process, over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from thunderserve.engine.launch.launch import Launch

MIB = 1 << 20
WARM_S = 600.0
"""Life of a process that tells nothing: allocators and the matrix library grow with every length and batch not yet seen."""


class Look(NamedTuple):
    """One process at one moment."""

    at_s: float
    process: str
    pid: int
    resident_mib: float
    threads: int
    files: int


@dataclass(frozen=True)
class Trend:
    """How the memory of one process went, from a quarter of its life on: what it takes to warm up is not a leak."""

    process: str
    pid: int
    minutes: float
    first_mib: float
    last_mib: float
    mib_per_hour: float


def look(launch: Launch, at_s: float) -> list[Look]:
    """The coordinator (this process, front and clients included) and all workers that are there."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    found = [("coordinator", psutil.Process())]
    for replica, process in enumerate(launch.processes):
        try:
            found.append((f"worker {replica}", psutil.Process(process.pid)))
        except psutil.NoSuchProcess:
            continue
    looks = []
    for name, one in found:
        try:
            with one.oneshot():
                looks.append(Look(at_s, name, one.pid, one.memory_info().rss / MIB, one.num_threads(), one.num_fds()))
        except psutil.NoSuchProcess:
            continue
    return looks


def trends(looks: Sequence[Look]) -> list[Trend]:
    """One a process that lived long enough; one that was killed and started again is two."""
    found = []
    for name, pid in dict.fromkeys((one.process, one.pid) for one in looks):
        mine = [one for one in looks if one.pid == pid]
        from_s = mine[0].at_s + max(WARM_S, (mine[-1].at_s - mine[0].at_s) / 4)
        warm = [one for one in mine if one.at_s >= from_s]
        if len(warm) < 3:
            continue
        times, sizes = np.array([one.at_s for one in warm]), np.array([one.resident_mib for one in warm])
        slope = float(np.polyfit(times, sizes, 1)[0]) * 3600
        minutes = (times[-1] - times[0]) / 60
        found.append(Trend(name, pid, minutes, float(sizes[0]), float(sizes[-1]), slope))
    return found


def draw(looks: Sequence[Look], kills: Sequence[tuple[float, str]], caption: str, folder: Path) -> list[Path]:
    """Memory over time, a line a process, with the kills. Written as PDF and PNG."""
    from matplotlib.figure import Figure

    from harness.figures import _style

    with _style.paper():
        figure = Figure(figsize=(_style.TEXT_IN, 2.2), layout="constrained")
        axes = figure.subplots()
        colors = {"coordinator": "#4477aa", "worker 0": "#ee6677", "worker 1": "#228833"}
        for pid, name in dict.fromkeys((one.pid, one.process) for one in looks):
            mine = [one for one in looks if one.pid == pid]
            axes.plot(
                [one.at_s / 60 for one in mine], [one.resident_mib for one in mine],
                color=colors.get(name, "#777777"), label=name,
            )  # fmt: skip
        for at_s, name in kills:
            axes.axvline(at_s / 60, color="#bbbbbb", linewidth=0.6)
            axes.annotate(f"kill {name}", (at_s / 60, 0), fontsize=5, rotation=90, va="bottom", ha="right")
        names, lines = axes.get_legend_handles_labels()[::-1]
        unique = dict(zip(names, lines, strict=True))
        axes.legend(unique.values(), unique.keys(), loc="lower right", ncols=len(unique), frameon=False)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Minutes")
        axes.set_ylabel("Resident memory, MiB")
        figure.supxlabel(caption, fontsize=5, color="#777777")
        paths = [folder / f"soak.{kind}" for kind in ("pdf", "png")]
        for path in paths:
            figure.savefig(path)
    return paths
