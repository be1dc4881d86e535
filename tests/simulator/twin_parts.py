"""What the twin is made of: sequences, lanes and replicas as dataclasses, and the time of a step by the book."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from thunderserve.cost.step_table import StepTable
from thunderserve.serving.pool import Limits
from thunderserve.simulator.fleet import RouteSetup

NEVER = math.inf


@dataclass
class Sequence:
    number: int
    arrival: float
    prompt: int
    output: int
    emitted: int = 0
    cached: int = 0  # tokens in KV
    target: int = 0  # tokens that its prefill must put there
    blocks: int = 0
    route: RouteSetup | None = None
    handed_over: bool = False
    prefill_start: float = math.nan
    first_token: float = math.nan
    transfer_start: float = math.nan
    transfer_end: float = math.nan
    finish: float = math.nan
    preemptions: int = 0
    status: int = 2


@dataclass
class Lane:
    sequences: list[Sequence] = field(default_factory=list)
    decodes: list[Sequence] = field(default_factory=list)
    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    flying: bool = False
    finish: float = NEVER
    idle_since: float = -NEVER


@dataclass
class Replica:
    index: int
    table: StepTable
    limits: Limits
    free: int
    lanes: list[Lane]
    stage_free: list[float]
    waiting: list[Sequence] = field(default_factory=list)
    ready: list[Sequence] = field(default_factory=list)
    inbox: list[Sequence] = field(default_factory=list)
    pulled: int = 0
    given: list[Sequence] = field(default_factory=list)  # its part not done
    dirty: float = NEVER  # something has come or changed: look at it then
    last_look: float = -NEVER

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_tokens)

    def could_hold(self, tokens: int) -> bool:
        return self.blocks_for(tokens) + self.limits.watermark_blocks <= self.limits.blocks

    @property
    def max_sequences(self) -> int:
        return min(self.limits.max_sequences, self.limits.max_batched_tokens)


def interpolate(knots, values, at):
    """Piecewise linear, the end segments continued."""
    if len(knots) == 1:
        return float(values[0])
    place = 0
    while place < len(knots) - 2 and knots[place + 1] <= at:
        place += 1
    slope = (values[place + 1] - values[place]) / (knots[place + 1] - knots[place])
    return float(values[place] + slope * (at - knots[place]))


def stage_time(table: StepTable, stage: int, decodes: list[Sequence], chunks: list[tuple[Sequence, int]]) -> float:
    """The formula at the top of ``cost/step_table.py``."""
    tokens = len(decodes) + sum(length for _, length in chunks)
    sampled = len(decodes) + sum(s.cached + length == s.target for s, length in chunks)
    seconds = table.fixed_s[stage]
    seconds += interpolate(table.token_knots, table.token_s[stage], tokens)
    seconds += interpolate(table.logit_knots, table.logit_s[stage], sampled)
    if decodes:
        keys = sum(s.cached + 1 for s in decodes)
        by_batch = [interpolate(table.context_knots, row, keys) for row in table.decode_s[stage]]
        seconds += interpolate(table.batch_knots, by_batch, len(decodes))
    for sequence, length in chunks:
        pairs = length * sequence.cached + length * (length + 1) / 2
        seconds += table.chunk_s[stage] + pairs * interpolate(table.chunk_knots, table.pair_s[stage], length)
    return float(seconds)
