"""How likely given continuations are after contexts whose KV has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from eval.decode import Start
from eval.weights import Weights, cache_of

ROWS = 32
"""Continuations scored in one pass, at most."""


class Likelihood(NamedTuple):
    """One continuation: its summed log-likelihood, whether greedy decoding gives it, and the distributions behind it."""

    total: float
    greedy: bool
    log_probabilities: torch.Tensor
    """(tokens, vocabulary), where they were asked for; else empty."""


def score(
    weights: Weights, starts: Sequence[Start], continuations: Sequence[Sequence[int]], *, keep: bool = False
) -> list[Likelihood]:
    """Likelihood of ``continuations[i]`` after ``starts[i]``, each in one forward pass over the last token and the continuation.

    Rows with different contexts are padded on the left, different continuations on the right (a causal model never looks there).
    Raises FloatingPointError for logits that are not finite, ValueError for an empty continuation.
    """
    if not all(continuations):
        raise ValueError("a continuation without tokens has no likelihood")
    found: list[Likelihood] = []
    for first in range(0, len(starts), ROWS):
        some = slice(first, first + ROWS)
        found += _pass(weights, starts[some], continuations[some], keep=keep)
    return found


def _pass(
    weights: Weights, starts: Sequence[Start], continuations: Sequence[Sequence[int]], *, keep: bool
) -> list[Likelihood]:
    past, mask = cache_of([start.layers for start in starts])
    longest = max(map(len, continuations))
    rows = [
        [start.last_token, *ids[:-1], *[0] * (longest - len(ids))]
        for start, ids in zip(starts, continuations, strict=True)
    ]
    new = torch.tensor(rows, device=weights.device)
    mask = torch.cat([mask, mask.new_ones(new.shape)], 1)
    found = []
    with torch.inference_mode():
        logits = weights.forward(new, mask, past, last=False)
        for row, ids in zip(logits, continuations, strict=True):
            log_p = row[: len(ids)].log_softmax(-1)
            if not torch.isfinite(log_p).all():
                raise FloatingPointError("the model computed logits that are not finite")
            index = torch.tensor(list(ids), device=log_p.device)
            total = log_p.gather(1, index[:, None]).double().sum().item()
            found.append(Likelihood(total, bool((log_p.argmax(-1) == index).all()), log_p if keep else log_p[:0]))
    return found


def divergence(reference: Sequence[Likelihood], other: Sequence[Likelihood]) -> float:
    """Mean KL(reference || other) a token over all continuations, in nats."""
    total, tokens = 0.0, 0
    for a, b in zip(reference, other, strict=True):
        p, q = a.log_probabilities, b.log_probabilities
        total += (p.exp() * (p - q)).sum().double().item()
        tokens += len(p)
    return max(total / tokens, 0.0)
