"""How fast a codec is on this machine, beside a plain copy of the same values in the same run; one core, CPU seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.header import HEADER_BYTES
from thunderserve.kv.wire.packet import Decoder, Encoder

Layers = list[NDArray[np.float16]]


class Speed(NamedTuple):
    """Bytes of 16-bit keys and values a second, headers and checksums included."""

    copy_bytes_per_s: float
    encode_bytes_per_s: float
    decode_bytes_per_s: float
    bits_per_value: float
    """On the wire; without the header."""


def made_up(tokens: int, heads: int, dim: int, total_bytes: int) -> Layers:
    """Normal keys or values of so many layers that they take ``total_bytes``: more than any cache, as a model's are.

    Shape of each (tokens, heads, dim); one channel in 16 is ten times as large, as keys have it.
    """
    first = np.random.default_rng(0).standard_normal((tokens, heads, dim), np.float32)
    first[:, :, :: min(16, dim)] *= 10
    half = first.astype(np.float16)
    return [np.roll(half, layer, axis=0) for layer in range(max(2, total_bytes // half.nbytes))]


def heads_first(layers: Layers) -> Layers:
    """The same shapes with all tokens of a head together in memory, as transformers keeps its cache."""
    return [np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2) for x in layers]


def measure(name: str, layers: Layers, repeats: int = 5) -> Speed:
    """The best of ``repeats`` of a copy, of encoding and of decoding all ``layers``, each taken in pairs as keys and values."""
    pairs = list(zip(layers[::2], layers[1::2], strict=False))
    total = sum(k.nbytes + v.nbytes for k, v in pairs)
    encoder, decoder, room = Encoder(load(name)), Decoder(), [np.zeros_like(x) for x in layers]
    packets = [bytes(encoder.encode(k, v)) for k, v in pairs]

    def copy() -> None:
        for source, target in zip(layers, room, strict=True):
            np.copyto(target, source)

    def encode() -> None:
        for k, v in pairs:
            encoder.encode(k, v)

    def decode() -> None:
        for i, packet in enumerate(packets):
            decoder.decode(packet, (room[2 * i], room[2 * i + 1]))

    fastest = best_s((copy, encode, decode), repeats)
    copied = sum(x.nbytes for x in layers)
    bits = 8 * sum(len(packet) - HEADER_BYTES for packet in packets) / (total / 2)
    return Speed(copied / fastest[0], total / fastest[1], total / fastest[2], bits)


def best_s(works: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """CPU seconds of the fastest run of each of ``works``, taken in turn so that all meet the same neighbours."""
    found = [float("inf")] * len(works)
    for turn in range(repeats + 1):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            if turn:  # the first warms up
                found[i] = min(found[i], time.process_time() - start)
    return found
