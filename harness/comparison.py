"""Cells side by side: repeats of one thing over seeds put together, and rivals on the same requests paired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from harness.statistics import repeats
from harness.statistics.paired import Difference, mean_difference, share_difference
from harness.statistics.value import Value
from harness.sweep.backends import SIMULATED

if TYPE_CHECKING:
    from harness.result import CellResult, Judged, SweepResult
    from thunderserve.serving.records import Records
    from thunderserve.spec.slo import Latencies, Slo

CAPACITY = "capacity@"
"""Columns of a capacity search begin with this."""


class Place(NamedTuple):
    """Where systems are compared: all axes but the system and the seed."""

    backend: str
    cluster: str
    catalogue: str
    model: str
    workload: str
    rate_per_s: float | None
    """None for a replay, and for a capacity search."""
    requests: int

    @property
    def setting(self) -> Place:
        """The same place without its rate: one curve's worth."""
        return self._replace(rate_per_s=None)


@dataclass(frozen=True)
class Group:
    """Repeats of one system at one place: cells that differ in the seed only."""

    system: str
    family: str
    place: Place
    cells: tuple[CellResult, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The SLOs these cells are judged at."""
        return tuple(judged.label for judged in self.cells[0].judged)

    def judged(self, label: str) -> list[Judged]:
        """One judgement a seed at the SLO of that label; of the seeds that have it."""
        return [judged for cell in self.cells for judged in cell.judged if judged.label == label]

    def value(self, label: str, column: str) -> Value:
        """A metric over all seeds, with its interval: between seeds, or within the run where there is only one."""
        found = self.judged(label)
        known = [value for judged in found if (value := judged.metrics.get(column)) is not None]
        flags = sorted({judged.flags[column] for judged in found if column in judged.flags})
        flag = "; ".join(flags) or None
        if not known:
            return Value(None, None, flag)
        if len(known) == 1:
            return Value(known[0], next((j.intervals[column] for j in found if column in j.intervals), None), flag)
        if column.startswith("slo_attainment"):
            return repeats.share(known, self.place.requests)._replace(flag=flag)
        if column.startswith("goodput"):
            return self._goodput(label, known)._replace(flag=flag)
        if column.startswith(CAPACITY):
            return _bracketed(known, [j.intervals[column] for j in found if column in j.intervals])._replace(flag=flag)
        return repeats.positive(known)._replace(flag=flag)

    def _goodput(self, label: str, known: list[float]) -> Value:
        """No more than all requests can be good: the interval is that of the attainment, times what all good would be."""
        share = self.value(label, "slo_attainment")
        if not share.value or share.interval is None:
            return repeats.positive(known)
        mean = sum(known) / len(known)
        return Value(mean, (share.interval[0] * mean / share.value, share.interval[1] * mean / share.value))


def _bracketed(known: list[float], brackets: list[tuple[float, float]]) -> Value:
    """Capacities of several seeds: no surer than the brackets that each was searched to."""
    spread = repeats.positive(known)
    ends = [*brackets, spread.interval or (spread.value or 0.0, spread.value or 0.0)]
    return Value(spread.value, (min(low for low, _ in ends), max(high for _, high in ends)))


def is_capacity(cell: CellResult) -> bool:
    """Whether ``cell`` searched for a rate instead of being given one."""
    return any(column.startswith(CAPACITY) for judged in cell.judged for column in judged.metrics)


def place_of(cell: CellResult) -> Place:
    """Where ``cell`` lies but for system and seed."""
    axes = cell.axes
    rate = None if is_capacity(cell) else axes.rate_per_s
    return Place(axes.backend, axes.cluster, axes.catalogue, axes.model, axes.workload, rate, axes.requests)


def groups(result: SweepResult) -> list[Group]:
    """All cells of a sweep, put together over seeds, in its order. Capacity searches for several SLOs stay apart."""
    together, real = _clusters_together(result), _real_backends_together(result)
    found: dict[tuple[str, Place, tuple[str, ...]], list[CellResult]] = {}
    for cell in result.cells:
        slos = tuple(judged.label for judged in cell.judged)
        place = place_of(cell)
        backend = real if real and place.backend != SIMULATED else place.backend
        place = place._replace(cluster=together or place.cluster, backend=backend)
        found.setdefault((cell.axes.system, place, slos), []).append(cell)
    return [Group(system, cells[0].axes.family, place, tuple(cells)) for (system, place, _), cells in found.items()]


def _clusters_together(result: SweepResult) -> str:
    """Where each system has one cluster of its own, as at equal prices, they are compared across: the clusters as one place."""
    of_system: dict[str, set[str]] = {}
    for cell in result.cells:
        of_system.setdefault(cell.axes.system, set()).add(cell.axes.cluster)
    clusters = list(dict.fromkeys(cell.axes.cluster for cell in result.cells))
    apart = len(clusters) > 1 and all(len(own) == 1 for own in of_system.values())
    return " / ".join(clusters) if apart else ""


def _real_backends_together(result: SweepResult) -> str:
    """Where each system is carried out by one real backend, systems are compared across them: the real ones as one place."""
    of_system: dict[str, set[str]] = {}
    for cell in result.cells:
        if cell.axes.backend != SIMULATED:
            of_system.setdefault(cell.axes.system, set()).add(cell.axes.backend)
    names = list(dict.fromkeys(cell.axes.backend for cell in result.cells if cell.axes.backend != SIMULATED))
    return " / ".join(names) if len(names) > 1 and all(len(own) == 1 for own in of_system.values()) else ""


def systems(result: SweepResult) -> list[str]:
    """Labels of the systems, in the sweep's order."""
    return list(dict.fromkeys(cell.axes.system for cell in result.cells))


def labels(result: SweepResult) -> list[str]:
    """Labels of the SLOs, in the sweep's order."""
    return list(dict.fromkeys(judged.label for cell in result.cells for judged in cell.judged))


def planning_label(result: SweepResult) -> str:
    """The SLO that plans were made for: as ``resolved.json`` says, or else the middle one, as a sweep chooses it."""
    known = labels(result)
    told = _told_plan_slo(result.folder)
    if told is not None:
        for judged in (judged for cell in result.cells for judged in cell.judged):
            if judged.slo.model_dump(mode="json") == told:
                return judged.label
    return known[(len(known) - 1) // 2] if known else ""


def _told_plan_slo(folder: Path) -> object:
    try:
        return json.loads((folder / "resolved.json").read_text())["sweep"]["slo"]["plan"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def slo_of(result: SweepResult, label: str) -> Slo:
    """The SLO with that label. Raises KeyError for one the sweep does not have."""
    for cell in result.cells:
        for judged in cell.judged:
            if judged.label == label:
                return judged.slo
    raise KeyError(label)


@lru_cache(maxsize=32)
def saved(folder: Path) -> tuple[Records, Latencies]:
    """The saved requests of a cell, and their latencies alone. Kept, since figures and tables all ask for them."""
    from harness.store import requests

    return requests.read(folder)


Measure = Literal["slo_attainment", "ttft", "tpot", "e2e"]


def paired(first: Group, second: Group, measure: Measure, slo: Slo) -> Difference | None:
    """``first`` minus ``second`` on the same requests, as their hash says; seeds that one of them lacks are left out."""
    rivals = {cell.facts.workload_hash: cell for cell in second.cells}
    pairs = [(cell, rivals[cell.facts.workload_hash]) for cell in first.cells if cell.facts.workload_hash in rivals]
    if not pairs:
        return None
    if measure == "slo_attainment":
        return share_difference([(_joint(a, slo), _joint(b, slo)) for a, b in pairs])
    return mean_difference([(_latency(a, measure), _latency(b, measure)) for a, b in pairs])


def _joint(cell: CellResult, slo: Slo) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    from thunderserve.serving.records import meets

    records, alone = saved(cell.folder)
    return meets(records, slo.limits(alone)).joint


def _latency(cell: CellResult, measure: Measure) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    records, _ = saved(cell.folder)
    return np.asarray(getattr(records.latencies, f"{measure}_s"))


class Holding(NamedTuple):
    """What a row of rates says about the highest one that holds: it lies in [``holds``, ``fails``)."""

    holds: float | None
    """The highest rate up to which every swept rate reached the target; None if the lowest already missed it."""
    fails: float | None
    """The next swept rate, which missed it; None if none did."""
    verdict: Literal["holds", "fails", "undetermined"]
    """Whether the sample at ``holds`` proves the target (``fails`` when there is no such rate)."""


def holding(row: Sequence[Group], label: str, target: float = 0.9) -> Holding:
    """The highest swept rate with at least ``target`` attained, from the groups of one system at one setting."""
    ordered = sorted((g for g in row if g.place.rate_per_s is not None), key=lambda g: g.place.rate_per_s or 0.0)
    rates = [group.place.rate_per_s for group in ordered]
    misses = [not _reaches(group, label, target) for group in ordered]
    first = misses.index(True) if True in misses else len(ordered)
    fails = rates[first] if first < len(ordered) else None
    if first == 0:
        return Holding(None, fails, "fails")
    interval = ordered[first - 1].value(label, "slo_attainment").interval
    proven = interval is not None and interval[0] >= target
    return Holding(rates[first - 1], fails, "holds" if proven else "undetermined")


def _reaches(group: Group, label: str, target: float) -> bool:
    value = group.value(label, "slo_attainment").value
    return value is not None and value >= target


def wording(difference: Difference, *, better: Literal["above", "below"]) -> Literal["better", "worse", "undecided"]:
    """The verdict on a paired difference in a word, given which sign is better."""
    if difference.sign == "undetermined":
        return "undecided"
    return "better" if difference.sign == better else "worse"
