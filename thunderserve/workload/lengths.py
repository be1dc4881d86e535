"""Prompt and output lengths from a seed. The i-th pair of a stream does not depend on how many are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from thunderserve.spec import draw
from thunderserve.workload.file import ConstantLengths, Lognormal, LognormalLengths

Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints]
"""Prompt and output tokens, each of shape (N,)."""


class Sampler(Protocol):
    """Where lengths come from."""

    def draw(self, seed: int, purpose: str, count: int, skip: int) -> Pairs:
        """Pairs ``skip`` to ``skip + count`` of the stream named by seed and purpose."""


@dataclass(frozen=True)
class Constant:
    """Every request alike."""

    lengths: ConstantLengths

    def draw(self, seed: int, purpose: str, count: int, skip: int) -> Pairs:  # noqa: ARG002  nothing is drawn
        """The same pair, again and again."""
        return np.full(count, self.lengths.prompt), np.full(count, self.lengths.output)


@dataclass(frozen=True)
class Lognormals:
    """Two lognormal lengths, joined by a Gaussian copula."""

    lengths: LognormalLengths

    def draw(self, seed: int, purpose: str, count: int, skip: int) -> Pairs:
        """As ``Sampler``."""
        first = draw.normal(seed, f"{purpose}/prompt", count, skip=skip)
        second = draw.normal(seed, f"{purpose}/output", count, skip=skip)
        rho = self.lengths.correlation
        second = rho * first + math.sqrt(1 - rho * rho) * second
        return _tokens(self.lengths.prompt, first), _tokens(self.lengths.output, second)


def _tokens(shape: Lognormal, z: draw.Floats) -> Ints:
    one = np.ones(1)
    sigma = (
        shape.sigma if shape.sigma is not None else math.sqrt(draw.ln(one + (shape.cv or 0.0) * (shape.cv or 0.0))[0])
    )
    median = shape.median if shape.median is not None else (shape.mean or 1.0) / draw.exp(one * (sigma * sigma / 2))[0]
    high = shape.max if shape.max is not None else 2**53
    return np.rint(np.clip(median * draw.exp(sigma * z), shape.min, high)).astype(np.int64)


@dataclass(frozen=True)
class Cells:
    """A joint histogram: ``count`` requests with prompt and output between the (inclusive) ends of each cell."""

    prompt_low: Ints
    prompt_high: Ints
    output_low: Ints
    output_high: Ints
    count: Ints

    def draw(self, seed: int, purpose: str, count: int, skip: int) -> Pairs:
        """As ``Sampler``: a cell by its count, then both lengths evenly within it."""
        which = draw.uniform(seed, f"{purpose}/cell", count, skip=skip)
        edges = np.cumsum(self.count)
        cell = np.searchsorted(edges, np.floor(which * edges[-1]), side="right")
        prompt = _within(self.prompt_low[cell], self.prompt_high[cell], seed, f"{purpose}/prompt", skip)
        return prompt, _within(self.output_low[cell], self.output_high[cell], seed, f"{purpose}/output", skip)


def _within(low: Ints, high: Ints, seed: int, purpose: str, skip: int) -> Ints:
    """Uniform integers between inclusive ends."""
    share = draw.uniform(seed, purpose, len(low), skip=skip)
    return low + np.floor(share * (high - low + 1)).astype(np.int64)


@dataclass(frozen=True)
class Rows:
    """The rows of a trace: pairs as they stand, and arrivals in seconds from the first row where the file has them."""

    prompt: Ints
    output: Ints
    arrival_s: NDArray[np.float64] | None

    def draw(self, seed: int, purpose: str, count: int, skip: int) -> Pairs:
        """As ``Sampler``: rows with replacement."""
        share = draw.uniform(seed, f"{purpose}/row", count, skip=skip)
        row = np.floor(share * len(self.prompt)).astype(np.int64)
        return self.prompt[row], self.output[row]


@dataclass(frozen=True)
class Mixture:
    """Each request from one of several samplers, in proportion to their weights."""

    weights: tuple[float, ...]
    samplers: tuple[Sampler, ...]

    def draw(self, seed: int, purpose: str, count: int, skip: int) -> Pairs:
        """As ``Sampler``: the i-th pair is the i-th of one of the parts."""
        edges = np.cumsum(self.weights)
        which = draw.uniform(seed, f"{purpose}/part", count, skip=skip)
        chosen = np.minimum(np.searchsorted(edges, which * edges[-1], side="right"), len(edges) - 1)
        drawn = [part.draw(seed, f"{purpose}/{n}", count, skip) for n, part in enumerate(self.samplers)]
        prompts, outputs = (np.stack([pairs[side] for pairs in drawn]) for side in (0, 1))
        rows = np.arange(count)
        return prompts[chosen, rows], outputs[chosen, rows]
