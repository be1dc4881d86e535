"""What only a real engine needs: a request ends before its last token, because it said so or because nobody wants it."""

from __future__ import annotations

from thunderserve.serving import batcher, blocks, lists
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import FINISHED, LEFT, NONE, Ints, Pool, Row, Rows

blocks_for = blocks.blocks_for
stop_decoding = batcher._stop_decoding
unlink, find_end = lists.unlink, lists.find_end

WAITING, READY, RUNNING, OUTBOX = 0, 1, 2, 3  # where a request stands


@kernel
def standing(pool: Pool, index: int, lane: Row, request: int) -> int:
    """Where ``request`` stands at replica ``index``, between two steps; NONE if it is not there."""
    replica = pool.replicas[index]
    if _has(replica.waiting, pool.requests, request):
        return WAITING
    if _has(replica.ready, pool.requests, request):
        return READY
    if _has(lane, pool.requests, request):
        return RUNNING
    return OUTBOX if _has(replica.outbox, pool.requests, request) else NONE


@kernel
def leave(pool: Pool, index: int, lane: Row, request: int, now: float) -> None:
    """Take ``request`` out of replica ``index`` between two steps, wherever it stands, and free its blocks.

    A pipeline's lane must be idle. One in the outbox keeps its blocks: they are being read; see ``unload``.
    """
    replica, row = pool.replicas[index], pool.requests[request]
    place = standing(pool, index, lane, request)
    if place == WAITING:
        unlink(replica.waiting, pool.requests, request)
    elif place == READY:
        unlink(replica.ready, pool.requests, request)
        replica.free += blocks_for(row.prompt_tokens + row.progress - 1, replica.block_tokens)
    elif place == RUNNING:
        _leave_lane(pool, replica, lane, request)
    if row.moves == LEFT:
        replica.resident -= 1
    replica.pending_requests -= 1
    replica.pending_tokens -= row.prompt_tokens
    row.finish_s = now
    row.status = FINISHED


@kernel
def unload(pool: Pool, index: int, request: int) -> None:
    """The keys and values of ``request`` in the outbox have been read, or nobody wants them: free its blocks."""
    replica, row = pool.replicas[index], pool.requests[request]
    unlink(replica.outbox, pool.requests, request)
    replica.free += blocks_for(row.prompt_tokens + row.progress - 1, replica.block_tokens)


@kernel
def members(requests: Rows, first: int, count: int, found: Ints) -> None:
    """Write ``count`` requests of a list from ``first`` on into ``found``."""
    request = first
    for place in range(count):
        found[place] = request
        request = requests[request].next


@kernel
def _leave_lane(pool: Pool, replica: Row, lane: Row, request: int) -> None:
    row = pool.requests[request]
    place = find_end(pool.ints, lane.ends0, lane.ends, request)
    if place != NONE:
        stop_decoding(pool, replica, lane, place)
        tokens = row.prompt_tokens + row.output_tokens - (row.progress - lane.step) - 1
    else:
        tokens = row.prompt_tokens + row.progress
        if request == lane.chunk_head:
            lane.chunk_head = row.next
            lane.chunk_done = 0
    replica.free += blocks_for(tokens, replica.block_tokens)
    unlink(lane, pool.requests, request)


@inlined
def _has(line: Row, requests: Rows, request: int) -> bool:
    at = line.head
    while at != NONE and at != request:  # noqa: PLR1714 - numba
        at = requests[at].next
    return bool(at == request)
