"""``summary.parquet`` and ``summary.csv``: one row for each cell and SLO, made from what is on disk."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.result import CellResult, Judged, SweepResult
from harness.store import atomic, columns

Row = dict[str, Any]

_ORDER = ("backend", "catalogue", "model", "cluster", "workload", "rate_per_s", "slo_index", "system", "seed")


def rows(result: SweepResult) -> list[Row]:
    """One row for each cell and SLO, sorted by where it lies in the grid. Metrics keep their names; bounds end in _low, _high."""
    found = [_row(cell, index, judged) for cell in result.cells for index, judged in enumerate(cell.judged)]
    return sorted(found, key=_place)


def _place(row: Row) -> tuple[Any, ...]:
    return tuple((row[name] is not None, row[name]) if name == "rate_per_s" else row[name] for name in _ORDER)


def _row(cell: CellResult, index: int, judged: Judged) -> Row:
    facts = asdict(cell.facts)
    dropped = facts.pop("dropped")
    bounds = {
        f"{name}_{end}": bound
        for name, interval in judged.intervals.items()
        for end, bound in zip(("low", "high"), interval, strict=True)
    }
    slo = judged.slo
    limits = {"slo_scale": slo.scale, "slo_ttft_s": slo.ttft_s, "slo_tpot_s": slo.tpot_s, "slo_e2e_s": slo.e2e_s}
    place = {"slo": judged.label, "slo_index": index} | limits
    return (
        {"id": cell.id}
        | asdict(cell.axes)
        | place
        | facts
        | {"dropped": sum(dropped.values())}
        | judged.metrics
        | bounds
    )


def write(result: SweepResult) -> list[Row]:
    """Write both files; the rows."""
    table = rows(result)
    names = list(dict.fromkeys(name for row in table for name in row))
    if table:
        arrays = {name: _column([row.get(name) for row in table]) for name in names}
        atomic.write_with(result.folder / "summary.parquet", lambda draft: columns.write(draft, arrays))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(table)
    atomic.write_text(result.folder / "summary.csv", text.getvalue())
    return table


def _column(values: list[Any]) -> np.ndarray[tuple[int], np.dtype[Any]]:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int) for value in known) and len(known) == len(values):
        return np.array(values, np.int64)
    if all(isinstance(value, int | float) for value in known):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(["" if value is None else str(value) for value in values], object)
