"""The arrays that hold what replicas and requests are doing: one row a replica, a lane, a queue, a request.

Everything is plain numpy, so that compiled code and a Python engine work on the same memory. A *lane* is one batch that
may be in flight: a replica of S pipeline stages has S lanes, and a sequence stays in its lane from admission to its end.
Queues and lanes are doubly linked lists through the request rows (``next``, ``previous``), so nothing is ever allocated.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = Any  # one row of a structured array, as numba sees it: attributes are the fields
Rows: TypeAlias = NDArray[np.void]
Ints: TypeAlias = NDArray[np.int64]

NONE = -1

BOTH, PREFILL, DECODE = 0, 1, 2  # what a replica serves

FINISHED, REJECTED, UNSERVED = 0, 1, 2  # how a request ended

WAITING, READY, INBOX, OUTBOX = 0, 1, 2, 3  # the queues of a replica, at ``queues[4 * replica + kind]``
QUEUES = 4

QUEUE = np.dtype([("head", "i8"), ("tail", "i8"), ("count", "i8")])

REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("prefill_start_s", "f8"),  # first scheduled; NaN until then, as are the next four
        ("first_token_s", "f8"),
        ("transfer_start_s", "f8"),  # the decode replica began to pull
        ("transfer_end_s", "f8"),
        ("finish_s", "f8"),
        ("progress", "i8"),  # decoding: the lane step at which it ends; else: tokens emitted so far
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
        ("flow", "i4"),  # row of the (prefill, decode) pair that serves it; NONE if rejected
        ("preemptions", "i4"),
        ("status", "i4"),
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        ("role", "i8"),
        ("chunked", "i8"),  # 1: decodes and prefill chunks share a token budget; 0: whole prompts first
        ("stages", "i8"),
        ("block_tokens", "i8"),
        ("blocks", "i8"),  # KV blocks in all
        ("watermark", "i8"),  # blocks that an admission must leave free
        ("max_sequences", "i8"),  # in one batch
        ("max_tokens", "i8"),  # new tokens in one batch; a longer whole prompt runs alone
        ("lane0", "i8"),  # first lane; lanes of a replica are consecutive
        ("free", "i8"),  # blocks not held; a run of decode steps holds its growth from its start
        ("resident", "i8"),  # sequences pulled in and not finished (decode replicas)
        ("pending_requests", "i8"),  # given to this replica, its part not finished
        ("pending_tokens", "i8"),  # prompt tokens of those
        ("leap", "i8"),  # lane whose flight is a run of several decode steps, or NONE
        ("next_s", "f8"),  # when it must be looked at again
        ("flights", "i8"),  # batches launched; a run of decode steps counts once
        ("steps", "i8"),  # batch steps executed
    ]
)

LANE = np.dtype(
    [
        ("head", "i8"),  # sequences by admission: those decoding, then those in prefill
        ("tail", "i8"),
        ("count", "i8"),
        ("decoding", "i8"),
        ("context", "i8"),  # KV tokens of the decoding sequences together
        ("step", "i8"),  # decode steps so far
        ("chunk_head", "i8"),  # first sequence still in prefill, or NONE
        ("chunk_done", "i8"),  # its tokens that are in cache
        ("ends0", "i8"),  # its part of ``Pool.ends``: a heap of ``ends`` entries
        ("ends", "i8"),
        ("residue0", "i8"),  # its part of ``Pool.residues``
        ("batch_decodes", "i8"),  # the batch in flight: decoding sequences
        ("batch_chunks", "i8"),  # sequences in prefill
        ("batch_tokens", "i8"),  # their new tokens
        ("batch_last", "i8"),  # new tokens of the last of them
        ("batch_steps", "i8"),  # steps that this batch runs unchanged
        ("flying", "i8"),
        ("start_s", "f8"),
        ("finish_s", "f8"),
        ("idle_since_s", "f8"),
    ]
)


class Pool(NamedTuple):
    """State of R replicas with L lanes and N requests."""

    replicas: Rows  # (R,) REPLICA
    queues: Rows  # (4 R,) QUEUE
    lanes: Rows  # (L,) LANE
    requests: Rows  # (N,) REQUEST
    ends: Ints  # heaps by lane of ``end step << 32 | request``
    residues: Ints  # by lane and KV fill modulo the block size (relative to the lane's step): decoding sequences


class Limits(NamedTuple):
    """What one replica may do, before any state."""

    role: int
    chunked: bool
    stages: int
    block_tokens: int
    blocks: int
    watermark_blocks: int
    max_sequences: int
    max_batched_tokens: int


def empty_pool(limits: list[Limits], requests: Rows) -> Pool:
    """A pool of idle replicas over ``requests`` (rows of REQUEST)."""
    replicas = np.zeros(len(limits), REPLICA)
    lanes = np.zeros(sum(limit.stages for limit in limits), LANE)
    queues = np.zeros(QUEUES * len(limits), QUEUE)
    queues["head"] = queues["tail"] = NONE
    for name in ("head", "tail", "chunk_head"):
        lanes[name] = NONE
    lane = ends = residues = 0
    for row, limit in zip(replicas, limits, strict=True):
        for name, value in zip(("role", "chunked", "stages", "block_tokens", "blocks", "watermark"), limit, strict=False):
            row[name] = value
        row["max_tokens"] = limit.max_batched_tokens
        row["max_sequences"] = min(limit.max_sequences, limit.max_batched_tokens)
        row["lane0"], row["free"], row["leap"], row["next_s"] = lane, limit.blocks, NONE, np.inf
        for _ in range(limit.stages):
            lanes["ends0"][lane], lanes["residue0"][lane] = ends, residues
            lane, ends, residues = lane + 1, ends + limit.max_sequences, residues + limit.block_tokens
    return Pool(replicas, queues, lanes, requests, np.zeros(ends, np.int64), np.zeros(residues, np.int64))


def new_requests(count: int) -> Rows:
    """``count`` request rows that have not been served: times unset, status ``UNSERVED``."""
    rows = np.empty(count, REQUEST)
    for name in ("prefill_start_s", "first_token_s", "transfer_start_s", "transfer_end_s", "finish_s"):
        rows[name] = np.nan
    rows["progress"] = rows["preemptions"] = 0
    rows["next"] = rows["previous"] = rows["flow"] = NONE
    rows["status"] = UNSERVED
    return rows
