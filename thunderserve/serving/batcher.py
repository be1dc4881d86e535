"""What a replica does next: ``schedule`` forms a batch, somebody runs it, ``complete`` takes the results in.

No clock and no device: the simulator calls both from compiled code, an engine calls them one step at a time. The batch stands
in the lane's ``batch_*`` fields: ``batch_decodes`` sequences decode one token each, ``batch_chunks`` sequences from
``chunk_head`` on are in prefill, each to its end but the last, which takes ``batch_last`` tokens.

Two policies, as the engines have them:

* whole prompts first (vLLM V0; with ``max_batched_tokens`` = L_m on a prefill replica, DistServe's packing to the
  saturation length, OSDI 2024, section 4.3): waiting prompts make a batch of their own, first come first served, up to
  ``max_batched_tokens`` (a longer one runs alone); if none can be admitted, all admitted sequences decode one token.
* chunked (Sarathi-Serve, OSDI 2024; vLLM V1): every decoding sequence goes first, what is left of ``max_batched_tokens``
  goes to the sequence in prefill and then to new ones.

Admission holds the blocks of the whole prompt at once (as vLLM V0 and Sarathi-Serve do; V1 takes them chunk by chunk) and
must leave ``watermark_blocks`` free. When decoding runs out of blocks, the last sequence of the lane (one in prefill, or
else the latest admitted) is preempted: its blocks are freed, it waits at the front of the queue and will compute its prompt
and the tokens emitted so far anew; nobody is admitted in that step (vLLM V1).
The first ``cached_tokens`` of a prompt, which an engine found in memory, take blocks but no prefill.
After a prefill of p tokens the cache holds p tokens and one more token is emitted; each decode step adds one to both.
"""

from __future__ import annotations

from thunderserve.serving import blocks, lists
from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import (
    FINISHED,
    LEAVES,
    LEFT,
    NONE,
    Pool,
    Row,
)

blocks_for, growth, growth_horizon = blocks.blocks_for, blocks.growth, blocks.growth_horizon
next_growth, residue_place = blocks.next_growth, blocks.residue_place
push_back, push_front, insert_before, unlink = lists.push_back, lists.push_front, lists.insert_before, lists.unlink
push_end, remove_end, find_end = lists.push_end, lists.remove_end, lists.find_end


@kernel
def schedule(pool: Pool, index: int, lane: Row, now: float, max_steps: int) -> int:
    """Form the next batch of an idle lane of replica ``index``; return for how many steps it can run unchanged (0: no batch).

    A batch with prefill runs one step. A decode batch runs until its first sequence ends or blocks run out, at most
    ``max_steps``; the blocks of all these steps are held from now on.
    """
    replica = pool.replicas[index]
    while True:
        lane.batch_chunks = lane.batch_tokens = lane.batch_last = 0
        _join_ready(pool, index, lane)
        if replica.chunked == 0:
            _admit(pool, index, lane, replica.max_batched_tokens, now)
            if lane.batch_chunks > 0:
                lane.batch_decodes = 0
                lane.batch_steps = 1
                return 1
        preempted = _make_room(pool, index, lane)
        if preempted and lane.count == 0:
            continue  # it emptied itself; what waits may fit now
        if replica.chunked == 1:
            _continue_prefill(pool, index, lane, preempted, now)
        return _decode(pool, replica, lane, 1 if preempted or lane.batch_chunks > 0 else max_steps)


@kernel
def complete(pool: Pool, index: int, lane: Row, now: float) -> None:
    """Take in the batch of ``lane``, which ended at ``now`` after ``batch_steps`` steps."""
    if lane.batch_decodes > 0:
        lane.step += lane.batch_steps
        lane.context += lane.batch_decodes * lane.batch_steps
        while lane.ends > 0 and (pool.ints[lane.ends0] >> lists.REQUEST_BITS) == lane.step:
            request = pool.ints[lane.ends0] & lists.REQUEST_MASK
            _stop_decoding(pool, pool.replicas[index], lane, lane.ends0)
            _finish(pool, index, lane, request, now)
    request = lane.chunk_head
    for _ in range(lane.batch_chunks):
        row = pool.requests[request]
        following = row.next
        length = row.prompt_tokens + row.progress
        if following == NONE and lane.chunk_done + lane.batch_last < length:
            lane.chunk_done += lane.batch_last
            break
        _emit_first(pool, index, lane, request, now)
        lane.chunk_done = pool.requests[following].cached_tokens if following != NONE else 0
        lane.chunk_head = following
        request = following


@inlined
def _join_ready(pool: Pool, index: int, lane: Row) -> None:
    """Sequences whose KV has arrived from a prefill replica join the lane while it has room."""
    replica = pool.replicas[index]
    ready = replica.ready
    while ready.count > 0 and lane.count < replica.max_sequences:
        request = ready.head
        unlink(ready, pool.requests, request)
        _start_decoding(pool, replica, lane, request)
        insert_before(lane, pool.requests, request, lane.chunk_head)


@inlined
def _admit(pool: Pool, index: int, lane: Row, budget: int, now: float) -> None:
    """Admit waiting sequences to the batch, first come first served, while sequences, blocks and ``budget`` tokens allow."""
    replica = pool.replicas[index]
    waiting, whole = replica.waiting, replica.chunked == 0
    while waiting.count > 0 and lane.count < replica.max_sequences and budget > 0:
        request = waiting.head
        row = pool.requests[request]
        length = row.prompt_tokens + row.progress
        rest = length - row.cached_tokens
        held = blocks_for(length, replica.block_tokens)
        if held + replica.watermark_blocks > replica.free or (whole and rest > budget and lane.batch_chunks > 0):
            break
        unlink(waiting, pool.requests, request)
        push_back(lane, pool.requests, request)
        replica.free -= held
        if row.preemptions == 0:
            row.prefill_start_s = now
        if lane.chunk_head == NONE:
            lane.chunk_head = request
            lane.chunk_done = row.cached_tokens
        _add_chunk(lane, rest if whole else min(budget, rest))
        budget -= lane.batch_last


@inlined
def _add_chunk(lane: Row, tokens: int) -> None:
    lane.batch_chunks += 1
    lane.batch_tokens += tokens
    lane.batch_last = tokens


@inlined
def _continue_prefill(pool: Pool, index: int, lane: Row, preempted: bool, now: float) -> None:
    """Give what the decodes leave of the token budget to the sequence in prefill, then to new ones."""
    replica = pool.replicas[index]
    budget = replica.max_batched_tokens - lane.decoding
    if lane.chunk_head != NONE:
        row = pool.requests[lane.chunk_head]
        _add_chunk(lane, min(budget, row.prompt_tokens + row.progress - lane.chunk_done))
        budget -= lane.batch_last
    if not preempted:
        growing = next_growth(pool, replica, lane)
        replica.free -= growing  # the decodes of this step come first
        _admit(pool, index, lane, budget, now)
        replica.free += growing


@inlined
def _decode(pool: Pool, replica: Row, lane: Row, max_steps: int) -> int:
    """Let all decoding sequences take part, for as many steps as nothing changes, and hold the blocks they will need."""
    lane.batch_decodes = lane.decoding
    lane.batch_steps = 1
    if lane.decoding > 0:
        steps = min(max_steps, (pool.ints[lane.ends0] >> lists.REQUEST_BITS) - lane.step)
        lane.batch_steps = growth_horizon(pool, replica, lane, replica.free, steps)
        replica.free -= growth(pool, replica, lane, 0, lane.batch_steps)
    elif lane.batch_chunks == 0:
        lane.batch_steps = 0
    return int(lane.batch_steps)


@inlined
def _make_room(pool: Pool, index: int, lane: Row) -> bool:
    """Preempt the latest admitted sequences of the lane until the others have blocks for one step."""
    replica = pool.replicas[index]
    preempted = False
    while next_growth(pool, replica, lane) > replica.free:
        _preempt(pool, index, lane, lane.tail)
        preempted = True
    return preempted


@kernel
def _preempt(pool: Pool, index: int, lane: Row, request: int) -> None:
    """Free what ``request`` (the lane's last) holds and put it before all that wait; it will be computed anew."""
    replica, row = pool.replicas[index], pool.requests[request]
    if request == lane.chunk_head:
        lane.chunk_head = NONE
        lane.chunk_done = 0
        held = row.prompt_tokens + row.progress
    else:
        place = find_end(pool.ints, lane.ends0, lane.ends, request)
        _stop_decoding(pool, replica, lane, place)
        row.progress = row.output_tokens - (row.progress - lane.step)
        held = row.prompt_tokens + row.progress - 1
    replica.free += blocks_for(held, replica.block_tokens)
    row.preemptions += 1
    unlink(lane, pool.requests, request)
    push_front(replica.waiting, pool.requests, request)


@inlined
def _start_decoding(pool: Pool, replica: Row, lane: Row, request: int) -> None:
    """Count ``request``, with ``progress`` tokens emitted and all but the last in cache, among the lane's decoding ones."""
    row = pool.requests[request]
    context = row.prompt_tokens + row.progress - 1
    pool.ints[residue_place(replica, lane, context)] += 1
    lane.context += context
    row.progress = lane.step + row.output_tokens - row.progress
    push_end(pool.ints, lane.ends0, lane.ends, row.progress, request)
    lane.ends += 1
    lane.decoding += 1


@inlined
def _stop_decoding(pool: Pool, replica: Row, lane: Row, place: int) -> None:
    """Undo ``_start_decoding`` for the request at ``ints[place]`` of the lane's heap; ``progress`` stays its end step."""
    row = pool.requests[pool.ints[place] & lists.REQUEST_MASK]
    context = row.prompt_tokens + row.output_tokens - 1 - (row.progress - lane.step)
    pool.ints[residue_place(replica, lane, context)] -= 1
    lane.context -= context
    remove_end(pool.ints, lane.ends0, lane.ends, place)
    lane.ends -= 1
    lane.decoding -= 1


@inlined
def _emit_first(pool: Pool, index: int, lane: Row, request: int, now: float) -> None:
    """The prefill of ``request`` is done and has emitted a token: it ends, leaves for its decode replica, or decodes here."""
    replica, row = pool.replicas[index], pool.requests[request]
    if row.progress == 0:
        row.first_token_s = now
    row.progress += 1
    if row.progress == row.output_tokens:
        _finish(pool, index, lane, request, now)
    elif row.moves == LEAVES:
        row.moves = LEFT
        unlink(lane, pool.requests, request)
        push_back(replica.outbox, pool.requests, request)
        replica.pending_requests -= 1
        replica.pending_tokens -= row.prompt_tokens
    else:
        _start_decoding(pool, replica, lane, request)


@inlined
def _finish(pool: Pool, index: int, lane: Row, request: int, now: float) -> None:
    """All tokens of ``request`` are out: free its blocks. The last token is never put in cache."""
    replica, row = pool.replicas[index], pool.requests[request]
    replica.free += blocks_for(row.prompt_tokens + row.output_tokens - 1, replica.block_tokens)
    if row.moves == LEFT:
        replica.resident -= 1
    replica.pending_requests -= 1
    replica.pending_tokens -= row.prompt_tokens
    unlink(lane, pool.requests, request)
    row.finish_s = now
    row.status = FINISHED
