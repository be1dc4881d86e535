"""Seconds a KV codec takes a token, on the cards that encode and on those that decode.

Assumption, not a measurement: quantising reads the 16-bit values twice (ranges, then codes), writes the packed codes, and
reaches a small share of memory bandwidth because min, max and packing are separate passes. The paper's table shows
684 -> 698 ms (encode) and 1,108 -> 1,126 ms (decode) for about 1,828 tokens of LLaMA-30B on 2xA40 and on 4x3090Ti (its
KV-transfer table, second-hand): 2.92 GB in 14 ms over two A40 is 0.15 of their bandwidth a pass, in 18 ms over four 3090Ti 0.04.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from thunderserve.spec.cluster import Cluster
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica


@dataclass(frozen=True)
class CodecSpeed:
    """Share of memory bandwidth at which 16-bit KV is encoded and decoded, counted in bytes of 16-bit KV."""

    encode_share: float = 0.15
    decode_share: float = 0.04


DEFAULT_SPEED = CodecSpeed()

SpeedOf = Callable[[KvCodec], CodecSpeed]


def assumed(codec: KvCodec) -> CodecSpeed:  # noqa: ARG001 - the assumption is the same for all
    """Where nothing was measured: what the paper's two figures come to, for every codec."""
    return DEFAULT_SPEED


def codec_s_per_token(
    model: ModelSpec, prefill: Replica, decode: Replica, cluster: Cluster, codec: KvCodec, speed: CodecSpeed
) -> tuple[float, float]:
    """Encode and decode seconds a token; zero for a codec that sends the values as they are.

    Cards work in parallel on the layers and heads they hold; the slowest decides.
    """
    if codec.bits_per_value >= 8 * model.dtype_bytes:
        return 0.0, 0.0
    slowest_encode = _slowest_s(model, prefill, cluster) / speed.encode_share
    return slowest_encode, _slowest_s(model, decode, cluster) / speed.decode_share


def _slowest_s(model: ModelSpec, replica: Replica, cluster: Cluster) -> float:
    """Longest time in which a card of ``replica`` reads its KV of one token once."""
    layer_bytes = model.kv_bytes_per_token() / model.num_layers
    return max(
        stage.num_layers
        * layer_bytes
        * max(1 / stage.tp, 1 / model.num_kv_heads)
        / cluster.gpu(card).memory_bytes_per_s
        for stage in replica.stages
        for card in stage.devices
    )
