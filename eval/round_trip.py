"""The one thing that is measured: a context's KV, encoded and decoded once, layer by layer, on its way to the decoder."""

from __future__ import annotations

from typing import NamedTuple

import torch

from eval.contract import EXACT
from eval.weights import Layers
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.contract import CodecError
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.kv import CODECS


class Arrived(NamedTuple):
    """A context's KV as the decode replica has it, and what it weighed."""

    layers: Layers
    raw_bytes: int
    wire_bytes: int


class RoundTrip:
    """One codec. KV is rounded to ``wire_dtype``, sent, and restored to the model's own type."""

    def __init__(self, codec: str, wire_dtype: str = "float16") -> None:
        self.codec, self.wire_dtype = codec, getattr(torch, wire_dtype)
        if codec != EXACT:
            if codec not in CODECS:
                raise SpecError("no such KV codec", value=codec, remedy=nearest(codec, (*CODECS, EXACT)))
            self._encoder, self._decoder = Encoder(load(CODECS[codec])), Decoder()

    def __call__(self, layers: Layers) -> Arrived:
        """Send every layer. Raises FloatingPointError when the codec refuses the values, naming the layer."""
        values = sum(keys.numel() + values.numel() for keys, values in layers)
        if self.codec == EXACT or not values:
            return Arrived(layers, 2 * values, 2 * values)
        found, sent = [], 0
        for number, (keys, values_) in enumerate(layers):
            k, v = (x.to(self.wire_dtype).transpose(0, 1) for x in (keys, values_))
            try:
                packet = self._encoder.encode(k.cpu(), v.cpu(), layer=number, layers=len(layers))
            except CodecError as error:
                raise FloatingPointError(f"{self.codec} cannot carry layer {number}: {error}") from error
            sent += len(packet)
            arrived = self._decoder.decode(packet, tensors=True)
            found.append(tuple(x.to(keys).transpose(0, 1) for x in (arrived.k, arrived.v)))
        return Arrived(tuple((k, v) for k, v in found), 2 * values, sent)
