"""KV blocks: how many a sequence holds, and how a run of decode steps eats them.

A sequence with m tokens in cache holds ceil(m / block) blocks; its next decode step takes a new one when m is a multiple
of the block size. All sequences of a lane advance together, so it is enough to count them by ``m`` modulo the block size,
relative to the lane's step counter: ``residues[(m - step) % block]`` does not change while they decode.
"""

from __future__ import annotations

from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import Pool, Row


@inlined
def blocks_for(tokens: int, block_tokens: int) -> int:
    """Blocks that ``tokens`` KV tokens occupy."""
    return (tokens + block_tokens - 1) // block_tokens


@inlined
def residue_place(replica: Row, lane: Row, context: int) -> int:
    """Where in ``Pool.ints`` the lane counts its sequences that fill their last block as one with ``context`` tokens does."""
    return int(lane.residue0 + (context - lane.step) % replica.block_tokens)


@inlined
def next_growth(pool: Pool, replica: Row, lane: Row) -> int:
    """Blocks that the lane's decoding sequences take in their next step: those whose last block is full."""
    return int(pool.ints[lane.residue0 + (-lane.step) % replica.block_tokens])


@kernel
def growth(pool: Pool, replica: Row, lane: Row, first: int, steps: int) -> int:
    """Blocks that the lane's decoding sequences take during ``steps`` steps, after ``first`` others from now on."""
    size = replica.block_tokens
    cycles = steps // size
    total = cycles * lane.decoding
    residue = (-lane.step - first) % size  # those whose last block is full by then
    for _ in range(steps - cycles * size):
        total += pool.ints[lane.residue0 + residue]
        residue = residue - 1 if residue > 0 else size - 1
    return int(total)


@kernel
def growth_horizon(pool: Pool, replica: Row, lane: Row, free: int, limit: int) -> int:
    """How many steps, at most ``limit``, the lane can decode with ``free`` blocks. The lane must be decoding."""
    size = replica.block_tokens
    if blocks_for(limit, size) * lane.decoding <= free:
        return limit
    cycles = free // lane.decoding
    left = free - cycles * lane.decoding
    steps = cycles * size
    residue = (-lane.step) % size
    while steps < limit:
        left -= pool.ints[lane.residue0 + residue]
        if left < 0:
            break
        residue = residue - 1 if residue > 0 else size - 1
        steps += 1
    return int(min(steps, limit))
