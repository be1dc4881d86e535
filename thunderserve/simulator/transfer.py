"""KV transfers: a prefill replica offers, the decode replica pulls when it has room, links serve in the order of the pulls.

As in DistServe (OSDI 2024, section 4.3) the prompt's blocks stay held at the prefill replica until they have been received,
so a full decode replica slows prefill down. The decode replica holds the blocks from the start of the pull. Preempted
sequences of the decode replica come before new pulls. A replica may serve both sides, and its own prompts besides.
"""

from __future__ import annotations

from thunderserve.serving.blocks import blocks_for, growth, growth_horizon
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.lists import push_back, unlink
from thunderserve.serving.pool import NONE
from thunderserve.simulator.cruise import settle
from thunderserve.simulator.events import pop_transfer, push_transfer, set_next
from thunderserve.simulator.replica import nudge, resume, steps_begun, trim
from thunderserve.simulator.world import World


@kernel
def offer(world: World, index: int, now: float) -> None:
    """Offer what replica ``index`` has just prefilled to the decode replicas, which pull at once if they have room."""
    pool = world.pool
    outbox = pool.replicas[index].outbox
    while outbox.count > 0:
        request = outbox.head
        unlink(outbox, pool.requests, request)
        decode = world.routes[pool.requests[request].route].decode
        inbox = pool.replicas[decode].inbox
        push_back(inbox, pool.requests, request)
        if inbox.count == 1:
            pull(world, decode, now)


@kernel
def pull(world: World, index: int, now: float) -> None:
    """Start the transfers to replica ``index`` that it has room for, in the order of the offers."""
    pool, replica = world.pool, world.pool.replicas[index]
    inbox, waiting = replica.inbox, replica.waiting
    settled = False
    while inbox.count > 0 and replica.resident < replica.stages * replica.max_sequences:
        if waiting.count > 0 and pool.requests[waiting.head].preemptions > 0:
            break
        request = inbox.head
        held = blocks_for(pool.requests[request].prompt_tokens, replica.block_tokens)
        needed = held + replica.watermark_blocks
        if replica.cruising == 1 and needed > replica.free - replica.reserved:
            settle(world, index, now)
            settled = True
        if needed > replica.free and not _reclaim(world, index, held, now):
            break
        unlink(inbox, pool.requests, request)
        replica.free -= held
        replica.resident += 1
        _send(world, request, now)
    if settled:
        resume(world, index, now)


@kernel
def receive(world: World, now: float) -> None:
    """The transfer that ends first is over: its request is ready to decode, and its prefill replica has its blocks back."""
    pool = world.pool
    request = pop_transfer(world)
    row = pool.requests[request]
    row.transfer_end_s = now
    route = world.routes[row.route]
    prefill, decode = pool.replicas[route.prefill], pool.replicas[route.decode]
    prefill.free += blocks_for(row.prompt_tokens, prefill.block_tokens)
    if pool.replicas[route.prefill].waiting.count > 0:
        nudge(world, route.prefill, now)
    if pool.replicas[route.prefill].inbox.count > 0:
        pull(world, route.prefill, now)
    push_back(pool.replicas[route.decode].ready, pool.requests, request)
    if decode.leap == NONE or pool.lanes[decode.leap].count < decode.max_sequences or decode.stages > 1:
        nudge(world, route.decode, now)


@kernel
def _reclaim(world: World, index: int, held: int, now: float) -> bool:
    """Whether blocks that a leap holds for steps not begun make room for ``held`` more; if so the leap is shortened to fit."""
    pool, replica = world.pool, world.pool.replicas[index]
    if replica.leap == NONE:
        return False
    lane = pool.lanes[replica.leap]
    begun = steps_begun(world, index, now)
    free = replica.free + growth(pool, replica, lane, begun, lane.batch_steps - begun)
    if held + replica.watermark_blocks > free:
        return False
    free += growth(pool, replica, lane, 0, begun)
    steps = growth_horizon(pool, replica, lane, free - held, lane.batch_steps)
    if steps < lane.batch_steps:
        trim(world, index, steps)
        set_next(world.pool.replicas, index, lane.finish_s)
    return True


@inlined
def _send(world: World, request: int, now: float) -> None:
    """Encode, wait for the links, cross them, decode: note when ``request`` will have arrived."""
    row = world.pool.requests[request]
    path, tokens = world.routes[row.route], row.prompt_tokens
    if path.layers > 0 and row.first_token_s == now:
        _send_by_layers(world, request, now)
        return
    row.transfer_start_s = now
    start_s = now + path.encode_s_per_token * tokens
    for place in range(path.link0, path.link0 + path.links):
        start_s = max(start_s, world.clocks[world.pool.ints[place]])
    end_s = start_s + path.alpha_s + path.s_per_token * tokens
    for place in range(path.link0, path.link0 + path.links):
        world.clocks[world.pool.ints[place]] = end_s
    push_transfer(world, end_s + path.decode_s_per_token * tokens, request)


@inlined
def _send_by_layers(world: World, request: int, now: float) -> None:
    """The same for a prompt that was just finished and has been leaving while it was computed, its layers evenly over that time.

    The links worked on it from the end of its first layer on, whenever they had nothing older; what cannot have left before the
    prompt's end is its last layer. The decode replica is taken to have had room for it from the beginning, since it has now.
    """
    row = world.pool.requests[request]
    path, tokens = world.routes[row.route], row.prompt_tokens
    encode_s = path.encode_s_per_token * tokens / path.layers
    wire_s = path.s_per_token * tokens
    start_s = row.prefill_start_s + (now - row.prefill_start_s) / path.layers + encode_s
    for place in range(path.link0, path.link0 + path.links):
        start_s = max(start_s, world.clocks[world.pool.ints[place]])
    row.transfer_start_s = min(start_s, now)
    end_s = start_s + path.alpha_s + wire_s
    for place in range(path.link0, path.link0 + path.links):
        world.clocks[world.pool.ints[place]] = end_s
    last_s = now + encode_s + path.alpha_s + wire_s / path.layers
    push_transfer(world, max(end_s, last_s) + path.decode_s_per_token * tokens / path.layers, request)
