"""The saved requests of a cell: ``requests.parquet``, and what a metric sees of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from harness.result import Axes, CellResult, Facts, View
from harness.store import columns
from thunderserve.serving.records import Records, meets
from thunderserve.spec.slo import Latencies, Slo

NAME = "requests.parquet"
_ALONE = ("alone_ttft_s", "alone_tpot_s", "alone_e2e_s")


def write(folder: Path, records: Records, alone: Latencies) -> None:
    """Save the records and the latencies each request would have alone."""
    columns.write(folder / NAME, records.columns() | dict(zip(_ALONE, alone, strict=True)))


def read(folder: Path) -> tuple[Records, Latencies]:
    """The records and latencies alone that ``write`` saved. Raises ValueError if they are not whole."""
    table = columns.read(folder / NAME)
    try:
        records = Records(**{item.name: table[item.name] for item in fields(Records)})
        return records, Latencies(*(table[name] for name in _ALONE))
    except KeyError as error:
        raise ValueError(f"{folder / NAME} has no column {error}") from None


def view(records: Records, alone: Latencies, slo: Slo, axes: Axes, facts: Facts) -> View:
    """Hold ``records`` against ``slo``."""
    limits = slo.limits(alone)
    return View(
        records=records, alone=alone, limits=limits, met=meets(records, limits), slo=slo, axes=axes, facts=facts
    )


def read_view(cell: CellResult, slo: Slo) -> View:
    """The saved requests of ``cell`` held against ``slo``."""
    records, alone = read(cell.folder)
    return view(records, alone, slo, cell.axes, cell.facts)
