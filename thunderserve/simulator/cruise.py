"""Several decode batches that circle through the stages undisturbed: a *cruise*, one event instead of one a step.

While no sequence ends, blocks suffice and nobody can be admitted, the lanes of a pipelined replica repeat the same batches.
``plan`` runs them ahead on trial, in a loop of a few nanoseconds a stage, until that changes or ``AHEAD`` batches have begun;
``settle`` puts the result in place or, if something comes in between, runs them again from where they stood up to that
moment. Both do the arithmetic of single flights, in the same order, so the results are the same bits.
"""

from __future__ import annotations

import numpy as np

from thunderserve.serving.blocks import blocks_for
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import NONE
from thunderserve.simulator.events import had_its_turn
from thunderserve.simulator.steps import segment_of
from thunderserve.simulator.world import World

AHEAD = 48
"""Batches that one plan begins at most: what an interruption can waste, against one event a plan."""
UNLIMITED = 1 << 40


@kernel
def plan(world: World, index: int) -> float:
    """Begin a cruise of replica ``index`` if it can; return when to look again, or infinity for no cruise."""
    replica = world.pool.replicas[index]
    if not _is_undisturbed(world, index):
        return np.inf
    end_s = _run_ahead(world, index, np.inf)
    replica.cruising = 1
    growing = 0
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        growing += world.pool.lanes[number].trial_growth
    replica.reserved = growing  # at most this much is taken before ``end_s``
    return float(end_s)


@kernel
def settle(world: World, index: int, now: float) -> None:
    """End the cruise of replica ``index`` with all it has done before ``now``, and at ``now`` if it had its turn."""
    replica = world.pool.replicas[index]
    replica.cruising = 0
    replica.reserved = 0
    if replica.exact == 0 or now != replica.next_s or had_its_turn(world, index, now):
        _run_ahead(world, index, now)
    for stage in range(replica.stages):
        world.clocks[replica.stage0 + stage] = world.clocks[replica.trial0 + stage]
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        lane = world.pool.lanes[number]
        if lane.count == 0:
            continue
        lane.step += lane.trial_steps
        lane.context += lane.trial_steps * lane.decoding
        lane.flying = lane.trial_flying
        lane.start_s = lane.trial_start_s
        if lane.flying == 1:
            lane.finish_s = lane.trial_end_s
        else:
            lane.idle_since_s = lane.trial_end_s
        lane.batch_decodes = lane.decoding
        lane.batch_chunks = lane.batch_tokens = 0
        lane.batch_steps = 1
        replica.free -= lane.trial_growth
        replica.steps += lane.trial_steps
        replica.flights += lane.trial_flights


@inlined
def _is_undisturbed(world: World, index: int) -> bool:
    """Whether at least two lanes only decode, and no queue can give any lane more. A recorded run flies step by step."""
    pool, replica = world.pool, world.pool.replicas[index]
    if replica.stages == 1 or replica.leap != NONE or replica.ready.count > 0 or len(world.flights) > 0:
        return False
    if replica.waiting.count > 0:
        first = pool.requests[replica.waiting.head]
        held = blocks_for(first.prompt_tokens + first.progress, replica.block_tokens)
        if held + replica.watermark_blocks <= replica.free:
            return False
    lanes = 0
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        lane = pool.lanes[number]
        if lane.count != lane.decoding or (lane.flying == 1 and lane.batch_steps > 1):
            return False  # in prefill, or the rest of a leap
        if lane.count > 0:
            lanes += 1
    return lanes > 1


@kernel
def _run_ahead(world: World, index: int, until_s: float) -> float:
    """Let the lanes circle, on trial, until ``until_s`` (with it, if the replica had its turn) or the first change; return which.

    The lane whose batch ended first (equal: the lower index) enters stage 0 next, when that is free. A change is a batch
    whose end ends a sequence, or a batch that lacks blocks when it could enter. ``exact`` tells whether the trial is the
    state at the end (it is not if a batch enters later than that).
    """
    replica, lanes = world.pool.replicas[index], world.pool.lanes
    _begin_trial(world, index)
    free, inclusive = replica.free, had_its_turn(world, index, until_s)
    last = replica.lane0 + replica.stages
    left = AHEAD if until_s == np.inf else UNLIMITED
    entered_s = -np.inf
    while True:
        chosen, end_s = last, np.inf
        for number in range(replica.lane0, last):
            if lanes[number].trial_parked == 0 and lanes[number].trial_end_s < end_s:
                chosen, end_s = number, lanes[number].trial_end_s
        if chosen == last or end_s > until_s or (end_s == until_s and not inclusive):
            replica.exact = 1 if entered_s < until_s else 0
            return until_s
        if left == 0:
            until_s, inclusive, left = end_s, False, UNLIMITED
            continue
        lane = lanes[chosen]
        if lane.trial_flying == 1:
            if lane.trial_steps + 1 == lane.trial_limit:
                until_s, inclusive = end_s, False
                continue
            lane.trial_flying = 0
            lane.trial_steps += 1
            lane.trial_residue = lane.trial_residue - 1 if lane.trial_residue > 0 else replica.block_tokens - 1
        enter_s = max(end_s, world.clocks[replica.trial0])
        if enter_s > until_s or (enter_s == until_s and not inclusive):
            lane.trial_parked = 1
            continue
        growing = world.pool.ints[lane.residue0 + lane.trial_residue]
        if growing > free:
            lane.trial_parked = 1
            until_s, inclusive = enter_s, False
            continue
        free -= growing
        lane.trial_growth += growing
        left -= 1
        entered_s = enter_s
        _enter(world, index, chosen, enter_s)


@inlined
def _begin_trial(world: World, index: int) -> None:
    replica, table = world.pool.replicas[index], world.pool.replicas[index].table
    for stage in range(replica.stages):
        world.clocks[replica.trial0 + stage] = world.clocks[replica.stage0 + stage]
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        lane = world.pool.lanes[number]
        lane.trial_parked = 1 if lane.count == 0 else 0
        lane.trial_flying = lane.flying
        lane.trial_start_s = lane.start_s
        lane.trial_end_s = lane.finish_s if lane.flying == 1 else lane.idle_since_s
        lane.trial_steps = lane.trial_growth = lane.trial_flights = 0
        if lane.count > 0:
            lane.trial_residue = (-lane.step) % replica.block_tokens
            lane.trial_limit = (world.pool.ints[lane.ends0] >> 32) - lane.step
            lane.segment = segment_of(world.pool.ints, table.context_knots, table.context_n, lane.context)


@inlined
def _enter(world: World, index: int, number: int, enter_s: float) -> None:
    """Send the lane's next decode step, on trial, through the stages."""
    replica, lane = world.pool.replicas[index], world.pool.lanes[number]
    table, batch, ints = replica.table, lane.decoding, world.pool.ints
    lane.trial_flying = 1
    lane.trial_flights += 1
    lane.trial_start_s = enter_s
    keys = lane.context + batch * (lane.trial_steps + 1)
    segment = lane.segment
    while segment < table.context_n - 2 and ints[table.context_knots + segment + 1] <= keys:
        segment += 1
    lane.segment = segment
    beyond = keys - ints[table.context_knots + segment]
    leave_s = enter_s
    for stage in range(replica.stages):
        row = stage * table.width + batch
        cell = row * table.context_n + segment
        seconds = world.reals[table.attend_s + cell] + world.reals[table.attend_slope + cell] * beyond
        seconds += world.reals[table.base_s + row]
        place = replica.trial0 + stage
        leave_s = max(enter_s, world.clocks[place]) + seconds
        world.clocks[place] = leave_s
        hop = table.stage0 + 4 * stage + 2
        enter_s = leave_s + world.reals[hop] + batch * world.reals[hop + 1]
    lane.trial_end_s = leave_s
