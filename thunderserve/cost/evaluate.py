"""Step tables read with numpy: the plain reading of the formula in ``step_table``, for planners and closed forms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thunderserve.cost.step_table import Floats, Ints, StepTable


def lin(knots: Ints, values: Floats, at: Floats | Ints) -> Floats:
    """Piecewise linear between knots, the end segments continued. ``values`` is (S, K); the result (S, N)."""
    x = np.atleast_1d(np.asarray(at, dtype=np.float64))
    if len(knots) == 1:
        return np.repeat(values, len(x), axis=1)
    left = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    weight = (x - knots[left]) / (knots[left + 1] - knots[left])
    result: Floats = values[:, left] * (1 - weight) + values[:, left + 1] * weight
    return result


def prefill_s(table: StepTable, prompt_tokens: Ints) -> Floats:
    """(S, N) busy seconds of each stage for a step that is one whole prompt, which then samples its first token."""
    tokens = np.asarray(prompt_tokens, dtype=np.float64)
    pairs = tokens * (tokens + 1) / 2
    return (
        table.fixed_s[:, None]
        + lin(table.token_knots, table.token_s, tokens)
        + lin(table.logit_knots, table.logit_s, np.ones_like(tokens))
        + table.chunk_s[:, None]
        + pairs * lin(table.chunk_knots, table.pair_s, tokens)
    )


def decode_s(table: StepTable, batch: int, keys: Floats | Ints) -> Floats:
    """(S, N) busy seconds of each stage for steps in which ``batch`` sequences read ``keys`` keys in all."""
    size = np.array([batch], dtype=np.float64)
    flat = table.fixed_s[:, None] + lin(table.token_knots, table.token_s, size)
    return flat + lin(table.logit_knots, table.logit_s, size) + _attention_s(table, batch, keys)


class Shape(NamedTuple):
    """What one step computes."""

    decodes: int
    """Sequences that decode."""
    keys: int
    """That they read in all, each counting its new token."""
    chunks: tuple[tuple[int, int], ...]
    """Of prompts: new tokens, and tokens before them."""
    sampled: int
    """Tokens that come out."""

    @property
    def tokens(self) -> int:
        """New tokens in all."""
        return self.decodes + sum(new for new, _ in self.chunks)


def batch_s(table: StepTable, step: Shape) -> Floats:
    """(S,) busy seconds of each stage for any step."""
    total: Floats = table.fixed_s + lin(table.token_knots, table.token_s, np.array([step.tokens]))[:, 0]
    total = total + lin(table.logit_knots, table.logit_s, np.array([step.sampled]))[:, 0]
    if step.decodes:
        total = total + _attention_s(table, step.decodes, np.array([step.keys]))[:, 0]
    for new, past in step.chunks:
        pairs = new * past + new * (new + 1) / 2
        total = total + table.chunk_s + pairs * lin(table.chunk_knots, table.pair_s, np.array([new]))[:, 0]
    return total


def _attention_s(table: StepTable, batch: int, keys: Floats | Ints) -> Floats:
    size = np.array([batch], dtype=np.float64)
    rows = [
        lin(table.batch_knots, table.decode_s[:, :, column], size)[:, 0] for column in range(len(table.context_knots))
    ]
    return lin(table.context_knots, np.stack(rows, axis=1), keys)


def step_latency_s(table: StepTable, stage_s: Floats, tokens: Floats | Ints) -> Floats:
    """(N,) seconds from entering the first stage to leaving the last, on an idle pipeline."""
    hops = table.hop_s[:, None] + table.hop_s_per_token[:, None] * np.asarray(tokens, dtype=np.float64)
    total: Floats = stage_s.sum(axis=0) + hops.sum(axis=0)
    return total
