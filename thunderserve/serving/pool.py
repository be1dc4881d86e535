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

STAYS, LEAVES, LEFT = 0, 1, 2  # a request decodes where it was prefilled, will be handed over, has been

FINISHED, REJECTED, UNSERVED = 0, 1, 2  # how a request ended

QUEUE = np.dtype([("head", "i8"), ("tail", "i8"), ("count", "i8")], align=True)

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
        ("route", "i4"),  # the (prefill, decode) pair that serves it; NONE if rejected
        ("preemptions", "i4"),
        ("moves", "i4"),  # STAYS, LEAVES or LEFT
        ("status", "i4"),
        ("cached_tokens", "i4"),  # its first tokens that need no prefill: an engine has them from another request
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        ("chunked", "i8"),  # 1: decodes and prefill chunks share a token budget; 0: whole prompts first
        ("stages", "i8"),
        ("block_tokens", "i8"),
        ("blocks", "i8"),  # KV blocks in all
        ("watermark_blocks", "i8"),  # blocks that an admission must leave free
        ("max_sequences", "i8"),  # in one batch
        ("max_batched_tokens", "i8"),  # new tokens in one batch; a longer whole prompt runs alone
        ("lane0", "i8"),  # first lane; lanes of a replica are consecutive
        ("free", "i8"),  # blocks not held; a run of decode steps holds its growth from its start
        ("resident", "i8"),  # sequences pulled in from a prefill replica and not finished
        ("pending_requests", "i8"),  # given to this replica, its part not finished
        ("pending_tokens", "i8"),  # prompt tokens of those
        ("load", "f8"),  # what a router that looks at the replicas compares
        ("waiting", QUEUE),  # for their prefill
        ("ready", QUEUE),  # KV received, not decoding yet
        ("inbox", QUEUE),  # offered by prefill replicas
        ("outbox", QUEUE),  # prefilled here, to be offered
    ],
    align=True,
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
        ("ends0", "i8"),  # in ``Pool.ints``: a heap of ``ends`` entries ``end step << 32 | request``
        ("ends", "i8"),
        (
            "residue0",
            "i8",
        ),  # in ``Pool.ints``: decoding sequences by KV fill modulo the block size, relative to ``step``
        ("batch_decodes", "i8"),  # the batch in flight: decoding sequences
        ("batch_chunks", "i8"),  # sequences in prefill
        ("batch_tokens", "i8"),  # their new tokens
        ("batch_last", "i8"),  # new tokens of the last of them
        ("batch_steps", "i8"),  # steps that this batch runs unchanged
        ("flying", "i8"),
        ("start_s", "f8"),
        ("finish_s", "f8"),
        ("idle_since_s", "f8"),
    ],
    align=True,
)


class Pool(NamedTuple):
    """State of R replicas with L lanes and N requests.

    Rows may have more fields than named here (the simulator adds its own): compiled code only asks for names.
    """

    replicas: Rows  # (R,) REPLICA
    lanes: Rows  # (L,) LANE
    requests: Rows  # (N,) REQUEST
    ints: Ints  # lanes point into it


class Limits(NamedTuple):
    """What one replica may do, before any state."""

    chunked: bool
    stages: int
    block_tokens: int
    blocks: int
    watermark_blocks: int
    max_sequences: int
    max_batched_tokens: int


def empty_pool(
    limits: list[Limits],
    requests: Rows,
    *,
    replica_rows: np.dtype[np.void] = REPLICA,
    lane_rows: np.dtype[np.void] = LANE,
    spare: int = 0,
) -> Pool:
    """A pool of idle replicas over ``requests`` (rows of REQUEST), with ``spare`` more ``ints`` at the end."""
    replicas = np.zeros(len(limits), replica_rows)
    lanes = np.zeros(sum(limit.stages for limit in limits), lane_rows)
    for queue in ("waiting", "ready", "inbox", "outbox"):
        replicas[queue]["head"] = replicas[queue]["tail"] = NONE
    for name in ("head", "tail", "chunk_head"):
        lanes[name] = NONE
    columns = np.array(limits, dtype=np.int64)
    for name, column in zip(Limits._fields, columns.T, strict=True):
        replicas[name] = column
    replicas["max_sequences"] = np.minimum(replicas["max_sequences"], replicas["max_batched_tokens"])
    replicas["free"] = replicas["blocks"]
    replicas["lane0"] = np.cumsum(replicas["stages"]) - replicas["stages"]
    ends = np.repeat(replicas["max_sequences"], replicas["stages"])
    residues = np.repeat(replicas["block_tokens"], replicas["stages"])
    lanes["ends0"] = np.cumsum(ends) - ends
    lanes["residue0"] = ends.sum() + np.cumsum(residues) - residues
    return Pool(replicas, lanes, requests, np.zeros(ends.sum() + residues.sum() + spare, np.int64))


def new_requests(count: int) -> Rows:
    """``count`` request rows that have not been served: times unset, status ``UNSERVED``."""
    rows = np.zeros(count, REQUEST)
    for name in ("prefill_start_s", "first_token_s", "transfer_start_s", "transfer_end_s", "finish_s"):
        rows[name] = np.nan
    rows["progress"] = rows["preemptions"] = rows["moves"] = rows["cached_tokens"] = 0
    rows["next"] = rows["previous"] = rows["route"] = NONE
    rows["status"] = UNSERVED
    return rows
