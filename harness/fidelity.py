"""The simulator held against a real engine: the same plans and the same requests, cell by cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.comparison import saved
from harness.metrics.throughput import tokens_per_s
from harness.sweep.backends import SIMULATED
from thunderserve.engine.steplog import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from harness.result import CellResult, SweepResult
    from thunderserve.serving.records import Records

Measure = Callable[["Records"], float]


def _mean(name: str) -> Measure:
    return lambda records: float(np.nanmean(getattr(records.latencies, name)))


def _tail(name: str) -> Measure:
    return lambda records: float(np.nanpercentile(getattr(records.latencies, name), 99))


MEASURES: dict[str, Measure] = {
    "mean TTFT": _mean("ttft_s"), "mean TPOT": _mean("tpot_s"), "mean E2E": _mean("e2e_s"), "tokens/s": tokens_per_s,
    "p99 TTFT": _tail("ttft_s"), "p99 TPOT": _tail("tpot_s"), "p99 E2E": _tail("e2e_s"),
}  # fmt: skip
"""What is compared. With n requests a p99 is about the largest of n / 100 of them."""


class Pair(NamedTuple):
    """One cell, simulated and real."""

    system: str
    workload: str
    rate_per_s: float | None
    seed: int
    simulated: dict[str, float]
    real: dict[str, float]
    paces: dict[str, float]
    """Of ``KINDS`` of steps, where they were noted: their real seconds over what the cost model says for the very same steps.
    What of an error is left when all are 1 is the simulator's; the rest is the profile's, or of a machine with other work."""

    def error(self, name: str) -> float:
        """(simulated - real) / real."""
        return self.simulated[name] / self.real[name] - 1


def pairs(result: SweepResult) -> list[Pair]:
    """All cells that are there twice, in the sweep's order."""
    by_key: dict[tuple[object, ...], dict[str, CellResult]] = {}
    for cell in result.cells:
        axes = cell.axes
        key = (axes.system, axes.cluster, axes.catalogue, axes.model, axes.workload, axes.rate_per_s, axes.seed)
        by_key.setdefault(key, {})[axes.backend] = cell
    return [
        _pair(both[SIMULATED], real)
        for both in by_key.values()
        for backend, real in both.items()
        if backend != SIMULATED and SIMULATED in both
    ]


def _pair(ours: CellResult, theirs: CellResult) -> Pair:
    axes = theirs.axes
    if ours.facts.workload_hash != theirs.facts.workload_hash:
        raise ValueError(f"cells {ours.id} and {theirs.id} were not fed the same requests")
    simulated, real = ({name: one(saved(cell.folder)[0]) for name, one in MEASURES.items()} for cell in (ours, theirs))
    counters = theirs.facts.counters
    paces = {
        kind: counters[f"{kind}_step_s"] / expected_s
        for kind in KINDS
        if (expected_s := counters.get(f"{kind}_step_model_s", 0.0)) > 0
    }
    return Pair(axes.system, axes.workload, axes.rate_per_s, axes.seed, simulated, real, paces)


class Summary(NamedTuple):
    """Of one measure over all pairs."""

    name: str
    median: float
    """Of the absolute errors."""
    worst: float
    bias: float
    """Median of the signed errors: above 0 the simulator says more."""


def summaries(found: Iterable[Pair]) -> list[Summary]:
    """Median, worst and signed error of each measure."""
    rows = list(found)
    made = []
    for name in MEASURES:
        errors: NDArray[np.float64] = np.array([pair.error(name) for pair in rows])
        made.append(Summary(name, float(np.median(abs(errors))), float(np.max(abs(errors))), float(np.median(errors))))
    return made


def print_fidelity(found: list[Pair], console: Console) -> None:
    """Every pair, then the errors over all of them."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="the real engine, and the simulator's error against it",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for heading in ("system", "req/s", "TTFT, s", "", "TPOT, ms", "", "tok/s", "", *KINDS):
        is_name = heading == "system"  # it may be long, and is broken rather than a number
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    for pair in found:
        cells = []
        for name, scale, digits in (("mean TTFT", 1, 2), ("mean TPOT", 1e3, 1), ("tokens/s", 1, 0)):
            cells += [f"{pair.real[name] * scale:.{digits}f}", f"{100 * pair.error(name):+.0f} %"]
        cells += [f"{100 * (pair.paces[kind] - 1):+.0f} %" if kind in pair.paces else "" for kind in KINDS]
        table.add_row(escape(pair.system), "replay" if pair.rate_per_s is None else f"{pair.rate_per_s:g}", *cells)
    console.print(table)
    if words := _paces(found):
        console.print(words, highlight=False)
    table = Table(title=f"absolute error over {len(found)} cells", title_justify="left")
    for heading in ("measure", "median", "worst", "median with its sign"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for one in summaries(found):
        table.add_row(one.name, f"{100 * one.median:.1f} %", f"{100 * one.worst:.1f} %", f"{100 * one.bias:+.1f} %")
    console.print(table)


def _paces(found: Sequence[Pair]) -> str:
    """What is to be known of the machine before an error is put down to the simulator."""
    by_kind = {kind: [100 * (pair.paces[kind] - 1) for pair in found if kind in pair.paces] for kind in KINDS}
    words = [
        f"{kind} steps {float(np.median(paces)):+.1f} % ({min(paces):+.0f} to {max(paces):+.0f})"
        for kind, paces in by_kind.items()
        if paces
    ]
    if not words:
        return ""
    return (
        f"Right: real seconds in steps against the cost model's for the very same steps, median of cells: {', '.join(words)}. "
        "Far from 0, the machine had another pace than when it was profiled, or other work."
    )


def as_csv(found: Iterable[Pair]) -> str:
    """Every number of every pair."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    head = [f"{name}, {side}" for name in MEASURES for side in ("simulated", "real", "error")]
    table.writerow(
        ["system", "workload", "rate_per_s", "seed", *head, *(f"{kind} steps, real/cost model" for kind in KINDS)]
    )
    for pair in found:
        values = [(pair.simulated[name], pair.real[name], pair.error(name)) for name in MEASURES]
        paces = [f"{pair.paces[kind]:.6g}" if kind in pair.paces else "" for kind in KINDS]
        table.writerow([*pair[:4], *(f"{value:.6g}" for three in values for value in three), *paces])
    return stream.getvalue()


def draw(found: list[Pair], stem: Path, origin: str) -> list[Path]:
    """Real across, simulated up, a panel a measure, with the diagonal and 10 % to both sides."""
    from matplotlib.figure import Figure

    from harness.figures import _style
    from harness.figures._drawing import settle

    with _style.paper():
        figure = Figure(figsize=(_style.TEXT_IN, 2.5), layout="constrained")
        panels = figure.subplots(1, 3)
        systems = list(dict.fromkeys(pair.system for pair in found))
        for panel, (name, unit) in zip(panels, (("TTFT", "s"), ("TPOT", "s"), ("E2E", "s")), strict=True):
            values = [pair.real[f"mean {name}"] for pair in found] + [pair.simulated[f"mean {name}"] for pair in found]
            edge = np.array([0.0, max(values) * 1.1])
            panel.plot(edge, edge, color="#555555", linewidth=0.8)
            panel.fill_between(edge, edge * 0.9, edge * 1.1, color="#dddddd", linewidth=0)
            for system, marker in zip(systems, "osD^v<>P" * (1 + len(systems) // 8), strict=False):
                own = [pair for pair in found if pair.system == system]
                panel.plot(
                    [pair.real[f"mean {name}"] for pair in own], [pair.simulated[f"mean {name}"] for pair in own], marker,
                    markersize=4, markerfacecolor="none", label=system,
                )  # fmt: skip
            panel.set(xlim=edge, ylim=edge, aspect="equal", title=f"mean {name}")
            panel.locator_params(nbins=4)
            panel.set_xlabel(f"real, {unit}")
        panels[0].set_ylabel("simulated, s")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.set(rect=(0, 0.05, 1, 0.95))  # type: ignore[call-arg]
        figure.text(0.5, 0.004, origin, ha="center", va="bottom", fontsize=5, color="#777777")
        settle(figure)
        paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("pdf", "png", "svg")]
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path)
    return paths
