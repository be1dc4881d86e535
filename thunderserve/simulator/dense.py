"""Step tables laid out for the event loop: decode rows for every batch size, so that a decode step is one table read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost.step_table import Floats, Ints, StepTable
from thunderserve.simulator.world import TABLE

KNOTS = ("token", "logit", "chunk", "context")
"""The axes of a table; a row of TABLE has ``<axis>_n`` and ``<axis>_knots`` for each."""
REALS = ("stage0", "token_s", "logit_s", "pair_s", "attend_s", "attend_slope", "base_s", "whole_s", "slope_s")
"""The fields of TABLE that point into ``reals``, in the order in which their blocks lie there."""


class DenseTables(NamedTuple):
    """Rows of TABLE and the two heaps of numbers they point into."""

    rows: NDArray[np.void]
    knots: Ints
    reals: Floats


@dataclass
class Layouts:
    """Tables laid out so far. Fleets that share one lay out a table once for each largest batch."""

    _kept: dict[tuple[int, int], tuple[StepTable, DenseTables]] = field(default_factory=dict)
    """The table is kept beside its layout, so that its identity is not given to another."""

    def __call__(self, table: StepTable, batch: int) -> DenseTables:
        """Dense form of one table for decode batches of up to ``batch``: one row, its own heaps."""
        key = id(table), batch
        if key not in self._kept:
            self._kept[key] = table, lay_out(table, batch)
        return self._kept[key][1]


def joined(tables: Sequence[DenseTables]) -> DenseTables:
    """The rows of single tables, in their order, over common heaps."""
    rows = np.empty(len(tables), TABLE)
    for place, one in enumerate(tables):
        rows[place] = one.rows[0]
    for names, sizes in (
        ([f"{axis}_knots" for axis in KNOTS], [len(one.knots) for one in tables]),
        (REALS, [len(one.reals) for one in tables]),
    ):
        offsets = np.cumsum(sizes) - sizes
        for name in names:
            rows[name] += offsets
    return DenseTables(
        rows, np.concatenate([one.knots for one in tables]), np.concatenate([one.reals for one in tables])
    )


def lay_out(table: StepTable, batch: int) -> DenseTables:
    """Dense form of one table for decode batches of up to ``batch``: one row, its own heaps."""
    token_knots, token_s = _two_knots(table.token_knots, table.token_s)
    logit_knots, logit_s = _two_knots(table.logit_knots, table.logit_s)
    chunk_knots, pair_s = _two_knots(table.chunk_knots, table.pair_s)
    context_knots, attend = _two_knots(table.context_knots, _by_batch(table, batch))
    batches = np.arange(batch + 1)
    base = table.fixed_s[:, None] + linear(token_knots, token_s, batches) + linear(logit_knots, logit_s, batches)
    hops = table.hop_s.sum() + batches * table.hop_s_per_token.sum()
    whole = attend.sum(axis=0) + (base.sum(axis=0) + hops)[:, None]
    stage = np.stack([table.fixed_s, table.chunk_s, table.hop_s, table.hop_s_per_token], axis=1)
    slopes = _slopes(context_knots, attend), _slopes(context_knots, whole)
    rows = np.zeros(1, TABLE)
    rows["width"] = batch + 1
    columns = token_knots, logit_knots, chunk_knots, context_knots
    for axis, column, first in zip(KNOTS, columns, _firsts(columns), strict=True):
        rows[f"{axis}_n"], rows[f"{axis}_knots"] = len(column), first
    blocks = stage, token_s, logit_s, pair_s, attend, slopes[0], base, whole, slopes[1]
    for name, first in zip(REALS, _firsts(blocks), strict=True):
        rows[name] = first
    return DenseTables(rows, np.concatenate(columns), np.concatenate([block.ravel() for block in blocks]))


def _firsts(blocks: Sequence[NDArray[Any]]) -> Ints:
    """Where each block begins when they are put in a row."""
    sizes = np.array([block.size for block in blocks])
    return np.asarray(np.cumsum(sizes) - sizes)


def _slopes(knots: Ints, values: Floats) -> Floats:
    """Slope of the segment that begins at each knot; the last continues the one before."""
    slopes = np.diff(values, axis=-1) / np.diff(knots)
    return np.concatenate([slopes, slopes[..., -1:]], axis=-1)


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
