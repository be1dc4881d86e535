"""The tables of the report: rivals at the planning SLO, what holds at every SLO, pairs, and all numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness import comparison, notation
from harness.comparison import Group
from harness.report.findings import TARGET
from harness.report.markup import Cell, table
from harness.table import COLUMNS, Column, best

if TYPE_CHECKING:
    from harness.result import SweepResult
    from harness.statistics.paired import Difference

MOST_PAIRS = 200
"""Rows of paired differences; each reads the requests of two groups."""


class Where:
    """The columns that say where a row lies: those axes that differ in this sweep, and the system."""

    def __init__(self, found: Sequence[Group]) -> None:
        settings = [group.place.setting for group in found]
        axes = ("backend", "cluster", "catalogue", "model")
        self.vary = [name for name in axes if len({getattr(place, name) for place in settings}) > 1]
        self.same = [getattr(settings[0], name) for name in axes if name not in self.vary] if settings else []

    def heads(self, *, rate: bool = True) -> list[str]:
        """Names of these columns."""
        return ["workload", *self.vary, *(["req/s"] if rate else []), "system"]

    def cells(self, group: Group, *, rate: bool = True) -> list[Cell]:
        """The same columns of one row."""
        place = group.place
        words = "searched" if comparison.is_capacity(group.cells[0]) else _rate(place.rate_per_s)
        names = [place.workload, *(getattr(place, name) for name in self.vary)]
        middle = [Cell(words, place.rate_per_s)] if rate else []
        return [*(Cell(name, name) for name in names), *middle, Cell(group.system, group.system)]


def _rate(rate: float | None) -> str:
    return "replay" if rate is None else f"{rate:g}"


def tables(result: SweepResult) -> str:
    """All tables, as HTML."""
    found = sorted(comparison.groups(result), key=lambda group: _order(result, group))
    where = Where(found)
    parts = [
        _rivals(result, found, where),
        _holding(result, found, where),
        _paired(result, found, where),
        _plans(found, where),
    ]
    return "".join(parts)


def _order(result: SweepResult, group: Group) -> tuple[int, float, int]:
    """By workload, then by rate, rivals side by side."""
    workloads = list(dict.fromkeys(cell.axes.workload for cell in result.cells))
    return (
        workloads.index(group.place.workload),
        group.place.rate_per_s or 0.0,
        comparison.systems(result).index(group.system),
    )


def _rivals(result: SweepResult, found: Sequence[Group], where: Where) -> str:
    planned = comparison.planning_label(result)
    labels = comparison.labels(result)
    known = {name for group in found for judged in group.cells[0].judged for name in judged.metrics}
    shown = [column for column in COLUMNS if column.name in known]
    extra = sorted(name for name in known if name.startswith(comparison.CAPACITY))
    rows = []
    for label in sorted(labels, key=lambda one: one != planned):
        for group in (group for group in found if label in group.labels):
            rivals = [one for one in found if one.place == group.place and label in one.labels]
            values = [_value(group, rivals, label, column) for column in shown]
            searched = [
                Cell(notation.span(name, group.value(label, name)), group.value(label, name).value) for name in extra
            ]
            rows.append([*where.cells(group), Cell(label, labels.index(label)), *values, *searched])
    heads = [*where.heads(), "SLO", *(column.title for column in shown), *extra]
    seeds = max((len(group.cells) for group in found), default=0)
    caption = (
        f"{', '.join(where.same)}. Means over {seeds} seed(s) with 95 % intervals; plans were made for SLO {planned}. "
        "Bold: best at that place and SLO. Underlined: point at it for a warning."
    )
    return table(caption, heads, rows, name="comparison")


def _value(group: Group, rivals: Sequence[Group], label: str, column: Column) -> Cell:
    value = group.value(label, column.name)
    text = notation.span(column.name, value) if column.spread else notation.quantity(column.name, value.value)
    return Cell(text, value.value, hint=value.flag or "", best=group in best(column, rivals, label))


def _holding(result: SweepResult, found: Sequence[Group], where: Where) -> str:
    by_rate = [group for group in found if group.place.rate_per_s is not None]
    if len({group.place.rate_per_s for group in by_rate}) < 2:
        return ""
    rows = []
    for setting in dict.fromkeys(group.place.setting for group in by_rate):
        for system in dict.fromkeys(group.system for group in by_rate):
            row = [group for group in by_rate if group.place.setting == setting and group.system == system]
            for index, label in enumerate(comparison.labels(result) if row else ()):
                held = comparison.holding(row, label, TARGET)
                ends = [Cell("none" if x is None else f"{x:g}", x) for x in (held.holds, held.fails)]
                rows.append(
                    [*where.cells(row[0], rate=False), Cell(label, index), *ends, Cell(held.verdict, held.verdict)]
                )
    caption = (
        f"Highest swept rate with {TARGET * 100:g} % of requests within the SLO, and the next one, which misses it."
    )
    return table(
        caption, [*where.heads(rate=False), "SLO", "holds, req/s", "misses, req/s", "verdict"], rows, name="holding"
    )


def _paired(result: SweepResult, found: Sequence[Group], where: Where) -> str:
    names, label = comparison.systems(result), comparison.planning_label(result)
    pairs = list(_pairs(found, names[0])) if len(names) > 1 else []
    if not pairs or len(pairs) > MOST_PAIRS:
        return ""
    rows = []
    for group, reference in pairs:
        slo = comparison.slo_of(result, label)
        share = comparison.paired(group, reference, "slo_attainment", slo)
        wait = comparison.paired(group, reference, "ttft", slo)
        rows.append([*where.cells(group), *_points(share), *_seconds(wait)])
    caption = (
        f"Each system minus {names[0]}, request by request on the same requests, at SLO {label}, with 95 % intervals."
    )
    return table(caption, [*where.heads(), "SLO points", "", "mean TTFT", " "], rows, name="paired")


def _pairs(found: Sequence[Group], reference: str) -> Iterator[tuple[Group, Group]]:
    by_rate = [group for group in found if not comparison.is_capacity(group.cells[0])]
    base = {group.place: group for group in by_rate if group.system == reference}
    for group in by_rate:
        if group.system != reference and group.place in base:
            yield group, base[group.place]


def _points(gap: Difference | None) -> list[Cell]:
    if gap is None:
        return [Cell("-"), Cell("other requests", "")]
    mean, low, high = (f"{value * 100:+.1f}" for value in (gap.mean, *gap.interval))
    word = comparison.wording(gap, better="above")
    return [Cell(f"{mean} ({low} to {high})", gap.mean), Cell(word, word)]


def _seconds(gap: Difference | None) -> list[Cell]:
    if gap is None:
        return [Cell("-"), Cell("other requests", "")]
    mean, low, high = (notation.seconds(value) for value in (gap.mean, *gap.interval))
    word = comparison.wording(gap, better="below")
    return [Cell(f"{mean} ({low} to {high})", gap.mean), Cell(word, word)]


def _plans(found: Sequence[Group], where: Where) -> str:
    rows = []
    for group in found:
        for plan, facts in {cell.facts.plan: cell.facts for cell in group.cells}.items():
            sizes = [
                Cell(f"{facts.num_gpus}", facts.num_gpus),
                Cell(f"{facts.price_per_hour:.2f}", facts.price_per_hour),
            ]
            rows.append([*where.cells(group), Cell(plan, plan), *sizes])
    return table("What was deployed.", [*where.heads(), "plan", "GPUs", "USD/h"], rows, name="plans")


def records(result: SweepResult) -> list[dict[str, Any]]:
    """Every (cell, SLO) with all its numbers: the data of the page."""
    return [
        {"id": cell.id, **asdict(cell.axes), "workload_hash": cell.facts.workload_hash, "slo": judged.label,
         "metrics": {name: _short(value) for name, value in judged.metrics.items()},
         "intervals": {name: [_short(end) for end in ends] for name, ends in judged.intervals.items()},
         "flags": judged.flags}
        for cell in result.cells
        for judged in cell.judged
    ]  # fmt: skip


def _short(value: float | None) -> float | None:
    """Seven digits: all that a reader of the page can use, and half the page."""
    return None if value is None else float(f"{value:.7g}")
