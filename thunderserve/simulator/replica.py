"""One replica in time: its batches fly through the pipeline stages, alone they leap over many decode steps.

Each stage holds one batch at a time and takes them in order; a batch enters stage s when it has left stage s - 1, the hop
is over and stage s is free. When the only batch of a replica decodes and nobody waits, its steps up to the next end or
block limit are one flight (a *leap*); an arrival in between cuts it at the end of the step then running. Several decode
batches that circle undisturbed are a *cruise* (``cruise.py``).
"""

from __future__ import annotations

import numpy as np

from thunderserve.serving.batcher import complete, schedule
from thunderserve.serving.blocks import growth
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import NONE, Row
from thunderserve.simulator.cruise import plan, settle
from thunderserve.simulator.events import had_its_turn, set_next
from thunderserve.simulator.steps import run_seconds, stage_seconds, steps_to_reach
from thunderserve.simulator.world import World

UNLIMITED = 1 << 40


@inlined
def land(world: World, index: int, now: float) -> None:
    """Take in the batches of replica ``index`` that end by ``now``."""
    replica = world.pool.replicas[index]
    if replica.cruising == 1:
        settle(world, index, now)
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        lane = world.pool.lanes[number]
        if lane.flying == 1 and lane.finish_s <= now:
            lane.flying = 0
            lane.idle_since_s = now
            replica.leap = NONE
            replica.steps += lane.batch_steps
            complete(world.pool, index, lane, now)
            if len(world.flights) > 0:
                _record(world, index, lane)


@inlined
def launch(world: World, index: int, now: float) -> None:
    """Start every batch that can start at ``now`` and note when the replica must be looked at again."""
    stage = world.pool.replicas[index].stage0
    while world.clocks[stage] <= now and _launch_one(world, index, now):
        pass
    next_s = plan(world, index)
    if next_s == np.inf:
        next_s = _first_landing(world, index)
        if world.clocks[stage] > now and _has_idle_work(world, index):
            next_s = min(next_s, world.clocks[stage])
    set_next(world.pool.replicas, index, next_s)


@kernel
def nudge(world: World, index: int, now: float) -> None:
    """Something that replica ``index`` could not take before has come, or has become free, at ``now``."""
    replica = world.pool.replicas[index]
    if replica.cruising == 1:
        settle(world, index, now)
    if replica.leap != NONE:
        _cut(world, index, now)
    set_next(world.pool.replicas, index, _next_chance(world, index, now))


@kernel
def resume(world: World, index: int, now: float) -> None:
    """Go on after a cruise was settled at ``now`` only to know its state."""
    next_s = plan(world, index)
    if next_s == np.inf:
        next_s = _next_chance(world, index, now)
    set_next(world.pool.replicas, index, next_s)


@kernel
def trim(world: World, index: int, steps: int) -> None:
    """Shorten the leap of replica ``index`` to ``steps`` steps, and give back the blocks of the others."""
    replica = world.pool.replicas[index]
    lane = world.pool.lanes[replica.leap]
    table = world.pool.replicas[index].table
    replica.free += growth(world.pool, replica, lane, steps, lane.batch_steps - steps)
    lane.batch_steps = steps
    batch = lane.batch_decodes
    lane.finish_s = lane.start_s + run_seconds(world.pool.ints, world.reals, table, batch, lane.context + batch, steps)
    _occupy(world, index, lane.finish_s)


@kernel
def steps_begun(world: World, index: int, now: float) -> int:
    """Steps of the leap of replica ``index`` that have begun at ``now``, the next of one that ends now if it had its turn."""
    lane = world.pool.lanes[world.pool.replicas[index].leap]
    table = world.pool.replicas[index].table
    batch = lane.batch_decodes
    first, limit, strict = lane.context + batch, lane.batch_steps, had_its_turn(world, index, now)
    return steps_to_reach(world.pool.ints, world.reals, table, batch, first, lane.start_s, now, strict, limit)


@inlined
def _cut(world: World, index: int, now: float) -> None:
    """End the leap with the step that runs at ``now``, and put that step's batch where it is among the stages."""
    replica = world.pool.replicas[index]
    lane = world.pool.lanes[replica.leap]
    steps = steps_begun(world, index, now)
    trim(world, index, steps)
    replica.leap = NONE
    if replica.stages == 1:
        return
    table = world.pool.replicas[index].table
    batch, context = lane.batch_decodes, lane.context
    start_s = lane.start_s
    if steps > 1:
        start_s += run_seconds(world.pool.ints, world.reals, table, batch, context + batch, steps - 1)
    lane.context = context + batch * (steps - 1)
    stage_seconds(world, index, lane)
    lane.context = context
    _occupy(world, index, start_s)
    _through_stages(world, index, batch, start_s)
    world.clocks[replica.stage0 + replica.stages - 1] = lane.finish_s


@inlined
def _launch_one(world: World, index: int, now: float) -> bool:
    """Start a batch on the lane that has been idle longest and has one (equal: the lower index)."""
    pool, replica = world.pool, world.pool.replicas[index]
    waiting, ready = replica.waiting, replica.ready
    nobody = replica.lane0 - 1
    last_s, last = -np.inf, nobody
    for _ in range(replica.stages):
        chosen, chosen_s = nobody, np.inf
        for number in range(replica.lane0, replica.lane0 + replica.stages):
            lane = pool.lanes[number]
            idle_s = lane.idle_since_s
            after = idle_s > last_s or (idle_s == last_s and number > last)
            if lane.flying == 0 and after and idle_s < chosen_s:
                chosen, chosen_s = number, idle_s
        if chosen == nobody:
            return False
        lane = pool.lanes[chosen]
        if lane.count + waiting.count + ready.count > 0:
            limit = _step_limit(world, index, chosen)
            if schedule(pool, index, lane, now, limit) > 0:
                _fly(world, index, chosen, now)
                return True
        last_s, last = chosen_s, chosen
    return False


@inlined
def _step_limit(world: World, index: int, chosen: int) -> int:
    """A lane may leap if no other lane of its replica has, or could get, anything to do meanwhile."""
    pool, replica = world.pool, world.pool.replicas[index]
    if replica.stages == 1:
        return UNLIMITED
    if replica.waiting.count > 0:
        return 1
    if replica.ready.count + pool.lanes[chosen].count > replica.max_sequences:
        return 1
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        if number != chosen and pool.lanes[number].count > 0:
            return 1
    return UNLIMITED


@inlined
def _fly(world: World, index: int, number: int, now: float) -> None:
    """Let the batch of lane ``number`` start at ``now``: set when it ends and what it occupies."""
    replica, lane = world.pool.replicas[index], world.pool.lanes[number]
    lane.flying = 1
    lane.start_s = now
    replica.flights += 1
    batch = lane.batch_decodes
    if lane.batch_chunks == 0 and (replica.stages == 1 or lane.batch_steps > 1):
        table = world.pool.replicas[index].table
        lane.finish_s = now + run_seconds(
            world.pool.ints, world.reals, table, batch, lane.context + batch, lane.batch_steps
        )
        _occupy(world, index, lane.finish_s)
        if lane.batch_steps > 1:
            replica.leap = number
    else:
        stage_seconds(world, index, lane)
        lane.finish_s = _through_stages(world, index, batch + lane.batch_tokens, now)


@inlined
def _through_stages(world: World, index: int, tokens: int, now: float) -> float:
    """Send a batch whose stage times stand at ``busy0`` through the stages; return when it leaves the last."""
    replica = world.pool.replicas[index]
    table = replica.table
    enter_s = leave_s = now
    for stage in range(replica.stages):
        place = replica.stage0 + stage
        leave_s = max(enter_s, world.clocks[place]) + world.clocks[replica.busy0 + stage]
        world.clocks[place] = leave_s
        hop = table.stage0 + 4 * stage + 2
        enter_s = leave_s + world.reals[hop] + tokens * world.reals[hop + 1]
    return leave_s


@inlined
def _occupy(world: World, index: int, until_s: float) -> None:
    for stage in range(world.pool.replicas[index].stages):
        world.clocks[world.pool.replicas[index].stage0 + stage] = until_s


@kernel
def _next_chance(world: World, index: int, now: float) -> float:
    """When a batch ends, or an idle lane can get stage 0, which may be now."""
    next_s = _first_landing(world, index)
    if _has_idle_work(world, index):
        next_s = min(next_s, max(now, world.clocks[world.pool.replicas[index].stage0]))
    return float(next_s)


@inlined
def _first_landing(world: World, index: int) -> float:
    replica, first_s = world.pool.replicas[index], np.inf
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        lane = world.pool.lanes[number]
        if lane.flying == 1:
            first_s = min(first_s, lane.finish_s)
    return first_s


@inlined
def _has_idle_work(world: World, index: int) -> bool:
    """Whether a lane that is not in flight has sequences, or could get some."""
    replica = world.pool.replicas[index]
    queued = replica.waiting.count + replica.ready.count
    for number in range(replica.lane0, replica.lane0 + replica.stages):
        lane = world.pool.lanes[number]
        if lane.flying == 0 and lane.count + queued > 0:
            return True
    return False


@inlined
def _record(world: World, index: int, lane: Row) -> None:
    """Add the flight that just ended to the time series, or only count it when there is no room."""
    pool, replica, counters = world.pool, world.pool.replicas[index], world.counters[0]
    if counters.flights < len(world.flights):
        row = world.flights[counters.flights]
        row.start_s = lane.start_s
        row.end_s = lane.finish_s
        row.replica = index
        row.steps = lane.batch_steps
        row.decodes = lane.batch_decodes
        row.prefill_tokens = lane.batch_tokens
        row.running = 0
        for number in range(replica.lane0, replica.lane0 + replica.stages):
            row.running += pool.lanes[number].count
        row.waiting = replica.waiting.count
        row.blocks = replica.blocks - replica.free
    counters.flights += 1
