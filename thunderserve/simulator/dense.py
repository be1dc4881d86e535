"""Step tables laid out for the event loop: decode rows for every batch size, so that a decode step is one table read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost.step_table import Floats, Ints, StepTable
from thunderserve.simulator.world import TABLE


class DenseTables(NamedTuple):
    """Rows of TABLE and the two heaps of numbers they point into."""

    rows: NDArray[np.void]
    knots: Ints
    reals: Floats


def lay_out(tables: list[tuple[StepTable, int]]) -> DenseTables:
    """Dense form of ``(table, largest decode batch)`` pairs, in their order."""
    rows = np.zeros(len(tables), TABLE)
    knots: list[Ints] = []
    reals: list[Floats] = []
    for row, (table, batch) in zip(rows, tables, strict=True):
        _lay_out_one(row, table, batch, knots, reals)
    return DenseTables(rows, np.concatenate(knots), np.concatenate(reals))


def _lay_out_one(row: Any, table: StepTable, batch: int, knots: list[Ints], reals: list[Floats]) -> None:
    token_knots, token_s = _two_knots(table.token_knots, table.token_s)
    logit_knots, logit_s = _two_knots(table.logit_knots, table.logit_s)
    chunk_knots, pair_s = _two_knots(table.chunk_knots, table.pair_s)
    context_knots, attend = _two_knots(table.context_knots, _by_batch(table, batch))
    batches = np.arange(batch + 1)
    base = table.fixed_s[:, None] + linear(token_knots, token_s, batches) + linear(logit_knots, logit_s, batches)
    hops = table.hop_s.sum() + batches * table.hop_s_per_token.sum()
    whole = attend.sum(axis=0) + (base.sum(axis=0) + hops)[:, None]
    row["width"] = batch + 1
    stage = np.stack([table.fixed_s, table.chunk_s, table.hop_s, table.hop_s_per_token], axis=1)
    for name, column in (
        ("token", token_knots),
        ("logit", logit_knots),
        ("chunk", chunk_knots),
        ("context", context_knots),
    ):
        row[f"{name}_n"], row[f"{name}_knots"] = len(column), _append(knots, column)
    for name, block in (
        ("stage0", stage),
        ("token_s", token_s),
        ("logit_s", logit_s),
        ("pair_s", pair_s),
        ("attend_s", attend),
        ("attend_slope", _slopes(context_knots, attend)),
        ("base_s", base),
        ("whole_s", whole),
        ("slope_s", _slopes(context_knots, whole)),
    ):
        row[name] = _append(reals, block)


def _slopes(knots: Ints, values: Floats) -> Floats:
    """Slope of the segment that begins at each knot; the last continues the one before."""
    slopes = np.diff(values, axis=-1) / np.diff(knots)
    return np.concatenate([slopes, slopes[..., -1:]], axis=-1)


def _append(heap: list[Any], block: NDArray[Any]) -> int:
    offset = sum(len(part) for part in heap)
    heap.append(np.ascontiguousarray(block).ravel())
    return offset


def _two_knots(knots: Ints, values: Floats) -> tuple[Ints, Floats]:
    """A table of a single knot is constant; say so with two, so that every lookup has a segment."""
    if len(knots) > 1:
        return knots, values
    return np.array([knots[0], knots[0] + 1]), np.repeat(values, 2, axis=-1)


def _by_batch(table: StepTable, batch: int) -> Floats:
    """(S, batch + 1, L) decode attention for every batch size; zero for none."""
    by_context = np.moveaxis(table.decode_s, 1, 2)  # (S, L, Q)
    batch_knots, values = _two_knots(table.batch_knots, by_context)
    rows = np.moveaxis(linear(batch_knots, values, np.arange(batch + 1)), 2, 1)
    rows[:, 0, :] = 0.0
    return np.ascontiguousarray(rows)


def linear(knots: Ints, values: Floats, at: Ints) -> Floats:
    """Piecewise linear over the last axis of ``values``, its end segments continued."""
    segment = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    left = values[..., segment]
    slope = (values[..., segment + 1] - left) / (knots[segment + 1] - knots[segment])
    return np.asarray(left + slope * (at - knots[segment]))
