"""All state of one simulation, as arrays: the replicas' pool, step tables, pipeline stages, links, events and time series."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.serving.pool import LANE, REPLICA, Pool, Rows
from thunderserve.serving.router import ROUTE

Floats = NDArray[np.float64]

TABLE = np.dtype(
    [
        (name, "i8")
        for name in (
            "width",  # largest decode batch + 1, here B
            "stage0",  # in reals: (S, 4) fixed, chunk, hop, hop per token
            "token_n",
            "token_knots",  # in ints
            "token_s",  # in reals: (S, token_n)
            "logit_n",
            "logit_knots",
            "logit_s",
            "chunk_n",
            "chunk_knots",
            "pair_s",
            "context_n",
            "context_knots",
            "attend_s",  # in reals: (S, B, context_n) decode attention
            "attend_slope",  # in reals: (S, B, context_n) its slope in the segment that begins at the knot
            "base_s",  # in reals: (S, B) the rest of a pure decode step
            "whole_s",  # in reals: (B, context_n) a pure decode step through all stages and hops
            "slope_s",  # in reals: (B, context_n) its slope in the segment that begins at the knot
        )
    ],
    align=True,
)
"""Where a replica's step table, laid out densely, lies in ``ints`` and ``reals``."""

MACHINE = np.dtype(
    [(name, REPLICA[name]) for name in REPLICA.names or ()]
    + [
        ("leap", "i8"),  # lane whose flight is a run of several decode steps, or NONE
        ("cruising", "i8"),  # 1: its lanes circle by themselves until ``next_s``
        ("exact", "i8"),  # 1: run ahead to ``next_s``, its lanes stand as they will then
        ("reserved", "i8"),  # blocks that the cruise will take at most
        ("next_s", "f8"),  # when it must be looked at again
        ("place", "i8"),  # where it stands in the heap of replicas by (next_s, index)
        ("slot", "i8"),  # who stands in the heap at the place with this row's number
        ("stage0", "i8"),  # in clocks: (S,) when each stage can take the next batch
        ("busy0", "i8"),  # in clocks: (S,) scratch: time on each stage of the batch being launched
        ("trial0", "i8"),  # in clocks: (S,) scratch: the stages in a cruise run ahead
        ("flights", "i8"),  # batches launched; a run of decode steps counts once
        ("steps", "i8"),  # batch steps executed
        ("table", TABLE),
    ],
    align=True,
)
"""A replica in the simulator."""

COURSE = np.dtype(
    [(name, LANE[name]) for name in LANE.names or ()]
    + [
        ("trial_flying", "i8"),  # the lane in a cruise run ahead; as the fields of LANE of these names
        ("trial_start_s", "f8"),
        ("trial_end_s", "f8"),  # finish, or idle since
        ("trial_steps", "i8"),
        ("trial_residue", "i8"),  # where the sequences that need a block next are counted
        ("trial_limit", "i8"),  # steps to its first end of a sequence
        ("trial_growth", "i8"),
        ("trial_flights", "i8"),
        ("trial_parked", "i8"),  # 1: does not move any more
        ("segment", "i8"),  # of the context knots
    ],
    align=True,
)
"""A lane in the simulator."""

PATH = np.dtype(
    [(name, ROUTE[name]) for name in ROUTE.names or ()]
    + [
        ("link0", "i8"),  # in ints: (links,) the clocks of its links: when each can take the next transfer
        ("links", "i8"),
        ("alpha_s", "f8"),
        ("s_per_token", "f8"),  # on the links
        ("encode_s_per_token", "f8"),
        ("decode_s_per_token", "f8"),
        ("layers", "i8"),  # 0: KV leaves when the prompt is finished; else layer by layer
    ],
    align=True,
)
"""A route, and how KV travels on it."""

FLIGHT = np.dtype(
    [
        ("start_s", "f8"),
        ("end_s", "f8"),
        ("replica", "i4"),
        ("steps", "i4"),  # a run of unchanged decode steps is one row
        ("decodes", "i4"),  # sequences that decode
        ("prefill_tokens", "i4"),
        ("running", "i4"),  # sequences in lanes at the end
        ("waiting", "i4"),
        ("blocks", "i8"),  # KV blocks held at the end
    ],
    align=True,
)

TRANSFER = np.dtype([("end_s", "f8"), ("order", "i8"), ("request", "i8")], align=True)

COUNTERS = np.dtype(
    [
        ("upcoming", "i8"),  # next request to arrive, or NONE
        ("transfers", "i8"),  # in the heap of transfers
        ("issued", "i8"),  # transfers ever begun
        ("routed", "i8"),  # requests given to a route
        ("flights", "i8"),  # rows of the time series (counted on beyond its room)
        ("router", "i8"),
        ("turn_s", "f8"),  # when a replica was last looked at
        ("turn", "i8"),  # the highest one looked at at that instant
    ],
    align=True,
)


class World(NamedTuple):
    """Arrays of one simulation; every compiled function takes it whole."""

    pool: Pool  # its replicas are rows of MACHINE, its lanes of COURSE
    routes: Rows  # (F,) PATH, ascending in (prefill, decode)
    reals: Floats  # the step tables
    clocks: Floats
    transfers: Rows  # heap of TRANSFER by (end_s, order)
    flights: Rows  # time series, FLIGHT
    counters: Rows  # (1,) COUNTERS
