"""What one forward pass computes, in plain arrays: no torch, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost.evaluate import Shape
from thunderserve.engine.messages import Sampling
from thunderserve.engine.replica.sequence import Sequence
from thunderserve.serving.blocks import blocks_for

Ints = NDArray[np.int64]


class Part(NamedTuple):
    """New tokens ``tokens[start:stop]`` of one sequence in prefill, after ``past`` tokens that are in memory."""

    sequence: Sequence
    start: int
    stop: int
    past: int
    ends: bool
    """The prompt ends here: its last row gives a token."""


class Span(NamedTuple):
    """A part as one who computes it needs to know it: ``past`` tokens are in the blocks ``table``."""

    start: int
    stop: int
    past: int
    table: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """A step without its sequences: numbers alone, which another process can be told. Arrays as in ``Step``."""

    tokens: Ints
    positions: Ints
    slots: Ints
    tables: NDArray[np.int32]
    lengths: Ints
    spans: tuple[Span, ...]
    rows: Ints
    """(sampled,) the packed rows whose logits give a token."""
    draws: tuple[tuple[Sampling, int], ...]
    """(sampled,) how each token is chosen, and its place in the answer."""


@dataclass(frozen=True)
class Step:
    """A batch: first one token of each decoding sequence, then the parts in prefill, packed without padding."""

    decoding: tuple[Sequence, ...]
    parts: tuple[Part, ...]
    tokens: Ints
    """(new tokens,) ids."""
    positions: Ints
    """(new tokens,) places in their sequences."""
    slots: Ints
    """(new tokens,) where their keys and values go: block * block tokens + offset."""
    tables: NDArray[np.int32]
    """(decoding, most blocks) block numbers, 0 behind the end."""
    lengths: Ints
    """(decoding,) tokens to attend to, the new one included."""

    @property
    def sampled(self) -> tuple[Sequence, ...]:
        """The sequences that get a token, in the order of ``rows``."""
        return (*self.decoding, *(part.sequence for part in self.parts if part.ends))

    @property
    def rows(self) -> Ints:
        """(sampled,) the packed rows whose logits give a token."""
        last = [part.stop - 1 for part in self.parts if part.ends]
        return np.array([*range(len(self.decoding)), *last], np.int64)

    @property
    def shape(self) -> Shape:
        """What a cost model is asked."""
        chunks = tuple((part.stop - part.start, part.past) for part in self.parts)
        return Shape(len(self.decoding), int(self.lengths.sum()), chunks, len(self.sampled))

    def packed(self, block_tokens: int) -> Packed:
        """What is to be computed, without the sequences."""
        spans = tuple(
            Span(start, stop, past, tuple(sequence.table[: blocks_for(past, block_tokens)]))
            for sequence, start, stop, past, _ in self.parts
        )
        draws = tuple((one.sampling, one.emitted) for one in self.sampled)
        return Packed(
            self.tokens, self.positions, self.slots, self.tables, self.lengths, spans, self.rows, draws
        )  # fmt: skip


def pack(decoding: list[Sequence], parts: list[tuple[Sequence, int, int]], block_tokens: int) -> Step:
    """Lay out a step. ``parts``: sequences in prefill, each with its tokens in memory and the number of new ones."""
    tokens = [sequence.tokens[-1] for sequence in decoding]
    spans = [np.array([len(sequence.tokens) - 1], np.int64) for sequence in decoding]
    slots = [_slots(sequence, span, block_tokens) for sequence, span in zip(decoding, spans, strict=True)]
    packed: list[Part] = []
    for sequence, past, count in parts:
        packed.append(Part(sequence, len(tokens), len(tokens) + count, past, past + count == len(sequence.tokens)))
        tokens += sequence.tokens[past : past + count]
        spans.append(np.arange(past, past + count, dtype=np.int64))
        slots.append(_slots(sequence, spans[-1], block_tokens))
    tables = np.zeros((len(decoding), max((len(one.table) for one in decoding), default=0)), np.int32)
    for row, sequence in zip(tables, decoding, strict=True):
        row[: len(sequence.table)] = sequence.table
    return Step(
        tuple(decoding), tuple(packed), np.array(tokens, np.int64), np.concatenate(spans), np.concatenate(slots), tables,
        np.array([len(sequence.tokens) for sequence in decoding], np.int64),
    )  # fmt: skip


def _slots(sequence: Sequence, positions: Ints, block_tokens: int) -> Ints:
    first = int(positions[0]) // block_tokens
    table = np.array(sequence.table[first : int(positions[-1]) // block_tokens + 1], np.int64)
    slots: Ints = table[positions // block_tokens - first] * block_tokens + positions % block_tokens
    return slots
