"""The contract between every cost source and the simulator: one replica's step times as plain arrays.

A *step* pushes one batch through all pipeline stages of a replica. Its batch has a decode part (``b`` sequences, one new
token each, ``c`` keys read in all) and prefill chunks (``l_i`` new tokens of a sequence that already has ``c_i`` in cache).
With ``n = b + sum(l_i)`` new tokens, of which ``o`` sequences need the LM head, stage ``s`` is busy for

    stage_s = fixed_s[s]
            + lin(token_knots, token_s[s], n)
            + lin(logit_knots, logit_s[s], o)
            + bilin(batch_knots, context_knots, decode_s[s], b, c)          (0 when b = 0)
            + sum_i ( chunk_s[s] + pairs(l_i, c_i) * lin(chunk_knots, pair_s[s], l_i) )

    pairs(l, c) = l * c + l * (l + 1) / 2        query-key pairs of a causal chunk

and the hop to stage ``s + 1`` takes ``hop_s[s] + n * hop_s_per_token[s]`` (zero for the last stage). ``lin`` is piecewise
linear between knots and continues its last segment beyond them; ``bilin`` likewise in both directions. All of it is linear
in ``c`` between two context knots: that is what lets the simulator sum a run of decode steps in closed form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class StepTable(NamedTuple):
    """Step times of one replica. S stages; K, M, Q, L, P knots. Knots ascend strictly; times are seconds, never negative."""

    fixed_s: Floats  # (S,) per step: launches and engine overhead that do not depend on the batch
    token_knots: Ints  # (K,) new tokens n in a step
    token_s: Floats  # (S, K) projections, MLP or experts, norms, tensor-parallel all-reduces
    logit_knots: Ints  # (M,) sequences o whose next token is sampled
    logit_s: Floats  # (S, M) LM head; zero but for the last stage
    batch_knots: Ints  # (Q,) decoding sequences b, from 1
    context_knots: Ints  # (L,) keys c read by all of them together, each counting its new token
    decode_s: Floats  # (S, Q, L) decode attention
    chunk_knots: Ints  # (P,) chunk length l
    pair_s: Floats  # (S, P) seconds a query-key pair of a prefill chunk
    chunk_s: Floats  # (S,) seconds a prefill chunk, whatever its length
    hop_s: Floats  # (S,) latency of sending activations to the next stage
    hop_s_per_token: Floats  # (S,) seconds a token of that hop
