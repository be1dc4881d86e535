"""Seconds of steps, from the dense tables. A run of decode steps is summed in closed form, never stepped through."""

from __future__ import annotations

import math

from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import Ints, Row
from thunderserve.simulator.world import Floats, World


@inlined
def segment_of(ints: Ints, first: int, count: int, at: int) -> int:
    """The segment of the knots ``[first, first + count)`` that holds ``at``; the end segments reach beyond."""
    low, high = 0, count - 2
    while low < high:
        middle = (low + high + 1) >> 1
        if ints[first + middle] <= at:
            low = middle
        else:
            high = middle - 1
    return low


@inlined
def interpolate(ints: Ints, reals: Floats, knots: int, values: int, segment: int, at: int) -> float:
    """Linear interpolation at ``at`` in ``segment`` of the table at these offsets."""
    left, right = ints[knots + segment], ints[knots + segment + 1]
    low, high = reals[values + segment], reals[values + segment + 1]
    return float(low + (high - low) / (right - left) * (at - left))


@kernel
def run_seconds(ints: Ints, reals: Floats, table: Row, batch: int, context: int, steps: int) -> float:
    """Seconds of ``steps`` decode steps of ``batch`` sequences, the first of which reads ``context`` keys in all.

    Step j reads ``context + j * batch`` keys, so the step times are an arithmetic series within each segment.
    """
    row = batch * table.context_n
    segment = segment_of(ints, table.context_knots, table.context_n, context)
    total = 0.0
    while True:
        knot = table.context_knots + segment
        count = steps
        if segment < table.context_n - 2:
            count = min(steps, (ints[knot + 1] - context + batch - 1) // batch)
        slope = reals[table.slope_s + row + segment]
        first = reals[table.whole_s + row + segment] + slope * (context - ints[knot])
        total += count * first + slope * batch * (0.5 * count * (count - 1))
        steps -= count
        if steps == 0:
            return float(total)
        context += count * batch
        segment += 1


@kernel
def steps_to_reach(
    ints: Ints,
    reals: Floats,
    table: Row,
    batch: int,
    context: int,
    start_s: float,
    time_s: float,
    strict: bool,
    limit: int,
) -> int:
    """The fewest steps (1 to ``limit``) of a run begun at ``start_s`` that end at or after (``strict``: after) ``time_s``."""
    steps = _estimate(ints, reals, table, batch, context, time_s - start_s, limit)
    while steps < limit and _ends_before(ints, reals, table, batch, context, steps, start_s, time_s, strict):
        steps += 1
    while steps > 1 and not _ends_before(ints, reals, table, batch, context, steps - 1, start_s, time_s, strict):
        steps -= 1
    return steps


@inlined
def _ends_before(
    ints: Ints,
    reals: Floats,
    table: Row,
    batch: int,
    context: int,
    steps: int,
    start_s: float,
    time_s: float,
    strict: bool,
) -> bool:
    end_s = start_s + run_seconds(ints, reals, table, batch, context, steps)
    return end_s <= time_s if strict else end_s < time_s


@kernel
def _estimate(ints: Ints, reals: Floats, table: Row, batch: int, context: int, seconds: float, limit: int) -> int:
    """Steps of about ``seconds``: walk the segments, then solve n * first + slope * batch * n (n - 1) / 2 = rest."""
    row = batch * table.context_n
    segment = segment_of(ints, table.context_knots, table.context_n, context)
    done = 0
    while True:
        knot = table.context_knots + segment
        count = limit - done
        if segment < table.context_n - 2:
            count = min(count, (ints[knot + 1] - context + batch - 1) // batch)
        slope = reals[table.slope_s + row + segment]
        first = reals[table.whole_s + row + segment] + slope * (context - ints[knot])
        rise = slope * batch
        whole = count * first + rise * (0.5 * count * (count - 1))
        if whole >= seconds or done + count >= limit:
            linear = first - 0.5 * rise
            root = math.sqrt(max(0.0, linear * linear + 2.0 * rise * seconds))
            part = 2.0 * seconds / max(linear + root, 1e-300)
            return max(1, min(limit, done + int(min(math.ceil(part), count))))
        seconds -= whole
        done += count
        context += count * batch
        segment += 1


@kernel
def stage_seconds(world: World, index: int, lane: Row) -> None:
    """Fill its scratch ``busy0`` with the time that the lane's batch (one step) takes on each stage of replica ``index``."""
    replica = world.pool.replicas[index]
    table, stages, busy, decodes = replica.table, replica.stages, replica.busy0, lane.batch_decodes
    for stage in range(stages):
        world.clocks[busy + stage] = 0.0
    if decodes > 0:
        keys = lane.context + decodes
        segment = segment_of(world.pool.ints, table.context_knots, table.context_n, keys)
        beyond = keys - world.pool.ints[table.context_knots + segment]
        for stage in range(stages):
            cell = (stage * table.width + decodes) * table.context_n + segment
            slope = world.reals[table.attend_slope + cell]
            world.clocks[busy + stage] = world.reals[table.attend_s + cell] + slope * beyond
    if lane.batch_chunks == 0:
        for stage in range(stages):
            world.clocks[busy + stage] += world.reals[table.base_s + stage * table.width + decodes]
        return
    sampled = decodes + _add_chunks(world, replica, lane)
    tokens = decodes + lane.batch_tokens
    at_tokens = segment_of(world.pool.ints, table.token_knots, table.token_n, tokens)
    at_sampled = segment_of(world.pool.ints, table.logit_knots, table.logit_n, sampled)
    for stage in range(stages):
        world.clocks[busy + stage] += world.reals[table.stage0 + 4 * stage]
        values = table.token_s + stage * table.token_n
        world.clocks[busy + stage] += interpolate(
            world.pool.ints, world.reals, table.token_knots, values, at_tokens, tokens
        )
        values = table.logit_s + stage * table.logit_n
        world.clocks[busy + stage] += interpolate(
            world.pool.ints, world.reals, table.logit_knots, values, at_sampled, sampled
        )


@kernel
def _add_chunks(world: World, replica: Row, lane: Row) -> int:
    """Add the attention of the batch's prefill chunks to its scratch ``busy0``; return how many of them end and emit a token."""
    table, busy = replica.table, replica.busy0
    request, done, ended = lane.chunk_head, lane.chunk_done, lane.batch_chunks
    for number in range(lane.batch_chunks):
        row = world.pool.requests[request]
        rest = row.prompt_tokens + row.progress - done
        tokens = rest
        if number == lane.batch_chunks - 1:
            tokens = lane.batch_last
            if tokens < rest:
                ended -= 1
        pairs = float(tokens) * done + 0.5 * tokens * (tokens + 1)
        segment = segment_of(world.pool.ints, table.chunk_knots, table.chunk_n, tokens)
        for stage in range(replica.stages):
            values = table.pair_s + stage * table.chunk_n
            per_pair = interpolate(world.pool.ints, world.reals, table.chunk_knots, values, segment, tokens)
            world.clocks[busy + stage] += world.reals[table.stage0 + 4 * stage + 1] + pairs * per_pair
        request, done = row.next, 0
    return int(ended)
