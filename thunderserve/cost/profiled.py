"""Step times from a table that a user measured on his own cards.

A CSV or Parquet file, one measured step a row:

| column  | meaning                                                                                          |
|---------|--------------------------------------------------------------------------------------------------|
| phase   | ``prefill`` or ``decode``                                                                        |
| tokens  | new tokens of the step (for decode: the batch)                                                   |
| batch   | sequences in the step                                                                            |
| context | tokens each sequence already has in cache (0 for a fresh prompt; the mean, if they differ)       |
| seconds | the whole step, all layers, one pipeline stage                                                   |
| gpu, tp, model | optional: rows hold for these alone; without ``tp`` they hold for TP 1                    |

Between rows times are interpolated linearly; beyond them the last segment continues. Stages of a pipeline take their share of the
layers. Prompts packed into one step differ from one long prompt only if the file has both, at the same ``tokens``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thunderserve.cost.codec import SpeedOf, assumed
from thunderserve.cost.roofline import hops
from thunderserve.cost.step_table import Floats, Ints, StepTable
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Phase, Replica

REQUIRED = ("phase", "tokens", "batch", "context", "seconds")
OPTIONAL = ("gpu", "tp", "model")


class Row(NamedTuple):
    """One measured step."""

    phase: str
    tokens: int
    batch: int
    context: float
    seconds: float
    gpu: str
    tp: int
    model: str


@dataclass(frozen=True)
class Profiled:
    """A ``CostSource`` that reads ``path``."""

    path: Path
    codec_speed: SpeedOf = assumed

    def step_table(
        self,
        model: ModelSpec,
        replica: Replica,
        cluster: Cluster,
        *,
        max_tokens: int,  # noqa: ARG002 - the file decides its own range
        max_sequences: int,  # noqa: ARG002
        max_context: int,  # noqa: ARG002
    ) -> StepTable:
        """See ``CostSource``; the knots are the file's own. Raises SpecError when the file has no rows for a stage."""
        rows = read_profile(self.path)
        curves = []
        for stage in replica.stages:
            names = {cluster.gpu(device).name for device in stage.devices}
            curves.append([self._curves(rows, model, name, stage.tp, replica.phase) for name in sorted(names)])
        shares = np.array([stage.num_layers / model.num_layers for stage in replica.stages])
        return _table(curves, shares, *hops(model, replica, cluster))

    def _curves(self, rows: tuple[Row, ...], model: ModelSpec, gpu: str, tp: int, phase: Phase) -> Curves:
        fitting = [row for row in rows if row.gpu in ("", gpu) and row.tp == tp and row.model in ("", model.name)]
        for wanted, excused in (("prefill", Phase.DECODE), ("decode", Phase.PREFILL)):
            if phase is not excused and not any(row.phase == wanted for row in fitting):
                known = sorted({f"{row.gpu or 'any GPU'} TP {row.tp} {row.phase}" for row in rows})
                raise SpecError(
                    f"has no {wanted} rows for {model.name} on {gpu} at TP {tp}",
                    file=self.path,
                    remedy=f"measure them, or plan with what it has: {', '.join(known)}",
                )
        return curves_from(fitting)


class Curves(NamedTuple):
    """The measured steps of one card type and TP degree, as the step table wants them."""

    token_knots: Ints
    token_s: Floats
    pair_s: float
    batch_knots: Ints
    context_knots: Ints
    decode_s: Floats


def curves_from(rows: Iterable[Row]) -> Curves:
    """Split whole steps into the parts of a step table, so that they add up to the measured times again."""
    rows = list(rows)
    knots, seconds, pair_s = _prefill([row for row in rows if row.phase == "prefill"])
    batch, context, steps = _decode([row for row in rows if row.phase == "decode"])
    attention = np.maximum(steps - _line(knots, seconds, batch)[:, None], 0.0)
    return Curves(knots, seconds, pair_s, batch, context, attention)


def _prefill(rows: list[Row]) -> tuple[Ints, Floats, float]:
    """(tokens, seconds without attention pairs, seconds a pair)."""
    if not rows:
        return np.array([1, 2]), np.zeros(2), 0.0
    tokens = np.array([row.tokens for row in rows])
    length = tokens / np.array([row.batch for row in rows])
    pairs = tokens * (np.array([row.context for row in rows]) + (length + 1) / 2)
    seconds = np.array([row.seconds for row in rows])
    slopes = []
    for count in np.unique(tokens):
        same = tokens == count
        if np.ptp(pairs[same]) > 0:
            slopes.append(np.polyfit(pairs[same], seconds[same], 1)[0])
    pair_s = max(float(np.median(slopes)), 0.0) if slopes else 0.0
    sizes = np.unique(tokens)
    rest = np.array([np.mean((seconds - pair_s * pairs)[tokens == size]) for size in sizes])
    # From one token on, so that whoever reads the table need not guess what lies before its first knot.
    knots = np.unique([1, sizes[0] + 1, *sizes]) if len(sizes) == 1 else np.unique([1, *sizes])
    return knots, _line(sizes, np.maximum(rest, 0.0), knots), pair_s


def _decode(rows: list[Row]) -> tuple[Ints, Ints, Floats]:
    """(batch knots, knots of keys in all, whole seconds at each)."""
    if not rows:
        return np.array([1, 2]), np.array([1, 2]), np.zeros((2, 2))
    # The step's own tokens are read too: the contract counts them among the keys.
    keys = {(row.batch, round(row.batch * (row.context + 1))): row.seconds for row in rows}
    batches = np.unique([batch for batch, _ in keys])
    contexts = np.unique([key for _, key in keys])
    contexts = contexts if len(contexts) > 1 else np.array([contexts[0], contexts[0] + 1])
    lines = []
    for batch in batches:
        own = np.array(sorted((key, seconds) for (size, key), seconds in keys.items() if size == batch))
        lines.append(_line(own[:, 0], own[:, 1], contexts))
    if len(batches) == 1:
        return np.array([batches[0], batches[0] + 1]), contexts, np.array(lines * 2)
    return batches, contexts, np.maximum(np.array(lines), 0.0)


def _line(knots: Floats | Ints, values: Floats, at: Floats | Ints) -> Floats:
    """Piecewise linear, the outer segments continued, never negative."""
    if len(knots) == 1:
        return np.full(len(at), values[0])
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    slope = (values[left + 1] - values[left]) / (knots[left + 1] - knots[left])
    out: Floats = np.maximum(values[left] + slope * (at - knots[left]), 0.0)
    return out


def _table(stages: list[list[Curves]], shares: Floats, hop_s: Floats, hop_s_per_token: Floats) -> StepTable:
    """Bring all stages to common knots; a stage of mixed cards is as slow as the slowest."""
    flat = [curves for stage in stages for curves in stage]
    tokens = np.unique(np.concatenate([curves.token_knots for curves in flat]))
    batch = np.unique(np.concatenate([curves.batch_knots for curves in flat]))
    context = np.unique(np.concatenate([curves.context_knots for curves in flat]))
    count = len(stages)
    token_s = [np.max([_line(c.token_knots, c.token_s, tokens) for c in stage], axis=0) for stage in stages]
    pair_s = [np.full(2, max(c.pair_s for c in stage)) for stage in stages]
    decode_s = [np.max([_plane(c, batch, context) for c in stage], axis=0) for stage in stages]
    scale = shares[:, None]
    one, two = np.zeros(count), np.array([1, 2])
    return StepTable(
        one, tokens, np.array(token_s) * scale, two, np.zeros((count, 2)), batch, context,
        np.array(decode_s) * scale[:, :, None], two, np.array(pair_s) * scale, one.copy(), hop_s, hop_s_per_token,
    )  # fmt: skip


def _plane(curves: Curves, batch: Ints, context: Ints) -> Floats:
    """Decode attention on other knots."""
    by_context = np.array([_line(curves.context_knots, row, context) for row in curves.decode_s])
    return np.array([_line(curves.batch_knots, column, batch) for column in by_context.T]).T


@lru_cache(maxsize=32)
def read_profile(path: Path) -> tuple[Row, ...]:
    """All rows of a profile. Raises SpecError with file, row, column, value and what to do."""
    records = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    if not records:
        raise SpecError("has no rows", file=path, remedy=f"one measured step a row, with {', '.join(REQUIRED)}")
    for column in records[0]:
        if column not in REQUIRED + OPTIONAL:
            raise SpecError(
                "unknown column", file=path, key=str(column), remedy=nearest(str(column), REQUIRED + OPTIONAL)
            )
    for column in REQUIRED:
        if column not in records[0]:
            raise SpecError("is missing", file=path, key=column, remedy=f"add the column {column}")
    return tuple(_row(path, number, record) for number, record in enumerate(records, start=1))


def _csv(path: Path) -> list[Mapping[str, Any]]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=path, remedy="check the path") from None


def _parquet(path: Path) -> list[Mapping[str, Any]]:
    import duckdb

    try:
        found = duckdb.read_parquet(str(path))
        return [dict(zip(found.columns, values, strict=True)) for values in found.fetchall()]
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise SpecError(f"cannot be read: {reason}", file=path, remedy="check the path and the format") from None


def _row(path: Path, number: int, record: Mapping[str, Any]) -> Row:
    def number_at(column: str, low: float) -> float:
        raw = record[column]
        try:
            value = float(raw)
        except (TypeError, ValueError):
            value = float("nan")
        if not (value >= low and np.isfinite(value)):
            raise SpecError(
                f"row {number}: must be a number of at least {low:g}", file=path, key=column, value=raw,
                remedy="seconds are whole steps in seconds, not ms" if column == "seconds" else "",
            )  # fmt: skip
        return value

    phase = record["phase"]
    if phase not in ("prefill", "decode"):
        raise SpecError(f"row {number}: is no phase", file=path, key="phase", value=phase, remedy="prefill or decode")
    tokens, batch = int(number_at("tokens", 1)), int(number_at("batch", 1))
    if batch > tokens or (phase == "decode" and batch != tokens):
        remedy = (
            "a decode step has one new token a sequence" if phase == "decode" else "tokens counts all prompts together"
        )
        raise SpecError(
            f"row {number}: {batch} sequences do not fit", file=path, key="tokens", value=tokens, remedy=remedy
        )
    tp = int(number_at("tp", 1)) if record.get("tp") not in (None, "") else 1
    gpu, model = str(record.get("gpu") or ""), str(record.get("model") or "")
    return Row(phase, tokens, batch, number_at("context", 0), number_at("seconds", 1e-9), gpu, tp, model)
