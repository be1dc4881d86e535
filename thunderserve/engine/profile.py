"""Step times of a model on this machine, measured through the very code that serves: schedule, execute, complete.

The table is what ``thunderserve.cost.profiled`` reads, so that the simulator can stand in for this machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thunderserve.engine.heap import keep_freed
from thunderserve.engine.messages import Role, Sampling, Submit
from thunderserve.engine.replica.core import Replica
from thunderserve.engine.replica.memory import PagedMemory
from thunderserve.engine.replica.model import Model
from thunderserve.serving.blocks import blocks_for

COLUMNS = ("phase", "tokens", "batch", "context", "seconds", "gpu", "tp", "model")
BLOCK_TOKENS = 16
VARIED = 24
"""Prompts of so many tokens are measured at neighbouring lengths."""
DECODED = 3
"""Steps of a batch in a round; the first, which finds nothing of its own in the caches, does not count."""


class Shape(NamedTuple):
    """One kind of step: ``batch`` sequences with ``tokens`` new tokens together, each after ``context`` tokens."""

    phase: str
    tokens: int
    batch: int
    context: int


@dataclass(frozen=True)
class Grid:
    """The shapes that are measured."""

    prefill_tokens: tuple[int, ...] = (1, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512)
    """Finer where long prompts leave the cache of a core: a token of 384 takes 1.15 times as long as one of 256 there."""
    prefill_contexts: tuple[int, ...] = (0, 512)
    least_after_context: int = 64
    """Fewer new tokens are measured without a context only: a step's fixed cost is read off them, and decoding shares it."""
    packed: int = 4
    """Prompts that are also measured packed into one step."""
    decode_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    decode_contexts: tuple[int, ...] = (16, 128, 512, 1024)
    repeats: int = 5
    """Rounds over all shapes: a machine's pace wanders from minute to minute, and each shape shall see all of it."""
    cache_tokens: int = 40_000

    def shapes(self, max_context: int) -> Iterator[Shape]:
        """All that fit the model and the cache, decoding first."""
        for context in self.decode_contexts:
            for batch in self.decode_batches:
                rest = DECODED + 1
                if context + rest <= max_context and batch * (context + rest + BLOCK_TOKENS) <= self.cache_tokens:
                    yield Shape("decode", batch, batch, context)
        for tokens in self.prefill_tokens:
            for context in self.prefill_contexts:
                if tokens + context < max_context and (context == 0 or tokens >= self.least_after_context):
                    yield Shape("prefill", tokens, 1, context)
            if tokens >= 8 * self.packed:
                yield Shape("prefill", tokens, self.packed, 0)


class Measured(NamedTuple):
    """A shape and what it takes on average."""

    shape: Shape
    seconds: float


def measure(model: Model, grid: Grid, note: Callable[[int, int], None] = lambda _done, _all: None) -> list[Measured]:
    """Run all shapes, in another order each of ``grid.repeats`` times. ``note`` hears how many of how many runs are done."""
    memory = model.memory(grid.cache_tokens // BLOCK_TOKENS, BLOCK_TOKENS)
    shapes = list(grid.shapes(model.max_context))
    rng = np.random.default_rng(0)
    taken: list[list[float]] = [[] for _ in shapes]
    done, whole = 0, grid.repeats * len(shapes)
    for turn in range(grid.repeats):
        for place in rng.permutation(len(shapes)).tolist():
            shape = shapes[place]
            if shape.phase == "decode":
                taken[place] += _decode(model, memory, shape, grid, rng)
            else:
                taken[place].append(_prefill(model, memory, shape, grid, rng, turn - grid.repeats // 2))
            done += 1
            note(done, whole)
    return [Measured(shape, typical(seconds)) for shape, seconds in zip(shapes, taken, strict=True)]


def typical(seconds: Iterable[float]) -> float:
    """The mean without the highest and the lowest fifth: what a step costs on average, without the machine's hiccups.

    A median would be less than that where times have a tail, and latencies are sums.
    """
    ordered = sorted(seconds)
    cut = len(ordered) // 5
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def rows(found: Iterable[Measured], gpu: str, model: str) -> Iterator[tuple[object, ...]]:
    """Lines of the table, as ``COLUMNS`` names them."""
    for (phase, tokens, batch, context), seconds in found:
        yield phase, tokens, batch, context, f"{seconds:.6g}", gpu, 1, model


def _replica(grid: Grid, model: Model, *, reuse: bool) -> Replica:
    role = Role("both", "chunked", 256, max(4096, *grid.prefill_tokens))
    count = grid.cache_tokens // BLOCK_TOKENS
    return Replica(role, blocks=count, block_tokens=BLOCK_TOKENS, max_context=model.max_context, reuse=reuse)


def _decode(model: Model, memory: PagedMemory, shape: Shape, grid: Grid, rng: np.random.Generator) -> list[float]:
    """Steps of sequences that are ``context`` tokens long on average over the steps that count.

    They join as if their keys and values had arrived from another worker: what those are does not change the time.
    """
    replica = _replica(grid, model, reuse=False)
    prompt = max(1, shape.context - DECODED // 2)
    for number in range(shape.batch):
        tokens = rng.integers(0, model.vocabulary, prompt).tolist()
        sequence = replica.submit(Submit(number, tuple(tokens), Sampling(DECODED + 1)), arrived=True)
        replica.reserve(sequence)
        replica.join(sequence, 0)
    return [_turn(replica, model, memory) for _ in range(DECODED)][1:]


def _prefill(model: Model, memory: PagedMemory, shape: Shape, grid: Grid, rng: np.random.Generator, more: int) -> float:
    """Whole prompts in one step; the context before them is found in memory, as a shared beginning is.

    Long prompts are ``more`` tokens longer, another number each time: the matrix library prepares itself for every new number of
    rows, which costs some milliseconds on a CPU, and in real traffic hardly any prompt has the length of another.
    """
    replica = _replica(grid, model, reuse=shape.context > 0)
    shared = rng.integers(0, model.vocabulary, blocks_for(shape.context, BLOCK_TOKENS) * BLOCK_TOKENS).tolist()
    if shared:
        replica.submit(Submit(0, tuple(shared), Sampling(1)))
        _turn(replica, model, memory)
    length = shape.tokens // shape.batch
    for number in range(shape.batch):
        own = rng.integers(0, model.vocabulary, length + (more if length >= VARIED else 0)).tolist()
        replica.submit(Submit(1 + number, (*shared, *own), Sampling(1)))
    return _turn(replica, model, memory)


def _turn(replica: Replica, model: Model, memory: PagedMemory) -> float:
    start_s = time.perf_counter()
    step = replica.schedule(0.0)
    if step is None:
        raise ValueError("there was nothing to measure")
    replica.complete(model.execute(step, memory), 0.0)
    return time.perf_counter() - start_s


def profile(
    folder: str, *, dtype: str, device: str, threads: int, grid: Grid, note: Callable[[int, int], None]
) -> list[Measured]:
    """Load the model and measure it."""
    import torch

    keep_freed()
    torch.set_num_threads(threads)
    return measure(Model(folder, dtype=dtype, device=device), grid, note)
