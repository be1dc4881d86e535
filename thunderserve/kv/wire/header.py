"""The 96 bytes before every payload: what it holds, and two checksums. Little-endian, version 1.

    offset  bytes
         0      4  magic "TSKV"
         4      2  version of the format, 1
         6      2  bytes of this header, 96
         8     16  codec: ASCII name, padded with zeros
        24      2  group size of the codec, 0 for none
        26      1  dtype: 1 float16, 2 bfloat16, 3 float32
        27      1  layout: 1 = values ordered by token, KV head, channel; keys before values
        28      4  layer, from 0
        32      4  layers of the model (of this stage, when stages send for themselves)
        36      4  KV heads
        40      4  width of a key
        44      4  width of a value
        48      8  tokens in the packet
        56      8  position of its first token in the sequence (chunks; sliding windows keep the last tokens only)
        64      8  sequence: the sender's number for the request
        72      8  bytes of the payload
        80      8  XXH64 of the payload
        88      8  XXH64 of bytes 0 to 87

A reader checks in this order, and says which check failed: length, magic, version, header checksum, fields, payload
length, payload checksum. A header is trusted with memory only after its own checksum.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from thunderserve.kv.wire.checksum import xxh64
from thunderserve.kv.wire.contract import Dtype, Shape

MAGIC, VERSION, HEADER_BYTES, LAYOUT = b"TSKV", 1, 96, 1
FIELDS = struct.Struct("<4sHH16sHBBIIIIIQQQQQ")
MOST_VALUES = 1 << 34
"""Values of keys or of values in one packet that a reader believes: 32 GiB at 16 bit."""


class PacketError(ValueError):
    """Bytes that are not a packet of this format, whole and unharmed; never decoded."""


@dataclass(frozen=True)
class Header:
    """What a packet says about itself."""

    codec: str
    group: int
    shape: Shape
    layer: int
    layers: int
    first_token: int
    sequence: int
    payload_bytes: int
    payload_checksum: int

    def write(self, target: Any) -> None:
        """Into the first ``HEADER_BYTES`` of ``target``, a writable buffer."""
        tokens, heads, key_dim, value_dim, dtype = self.shape
        FIELDS.pack_into(
            target, 0, MAGIC, VERSION, HEADER_BYTES, self.codec.encode("ascii"), self.group, dtype, LAYOUT, self.layer,
            self.layers, heads, key_dim, value_dim, tokens, self.first_token, self.sequence, self.payload_bytes,
            self.payload_checksum,
        )  # fmt: skip
        struct.pack_into("<Q", target, FIELDS.size, xxh64(memoryview(target)[: FIELDS.size]))


def read_header(data: Any) -> Header:
    """The header at the start of ``data``.

    Raises:
        PacketError: too short, foreign, of another version, damaged, or impossible.
    """
    view = memoryview(data).cast("B")
    if len(view) < HEADER_BYTES:
        raise PacketError(f"truncated: {len(view)} bytes, a header has {HEADER_BYTES}")
    magic, version, size, codec, group, dtype, layout, layer, layers, *rest = FIELDS.unpack_from(view)
    heads, key_dim, value_dim, tokens, first, sequence, length, check = rest
    if magic != MAGIC:
        raise PacketError(f"foreign: starts with {magic!r}, a KV packet with {MAGIC!r}")
    if version != VERSION:
        raise PacketError(f"format version {version}; this program reads version {VERSION}")
    if struct.unpack_from("<Q", view, FIELDS.size)[0] != xxh64(view[: FIELDS.size]):
        raise PacketError("damaged: the header does not match its checksum")
    if size != HEADER_BYTES or layout != LAYOUT or dtype not in list(Dtype):
        raise PacketError(f"unknown header size {size}, layout {layout} or dtype {dtype}")
    some = min(heads, key_dim, value_dim) > 0 and tokens * heads * max(key_dim, value_dim) <= MOST_VALUES
    if not (some and layer < layers):
        raise PacketError(
            f"impossible: layer {layer} of {layers}, {tokens} tokens of {heads} x {key_dim} and {heads} x {value_dim}"
        )
    name = codec.rstrip(b"\0").decode("ascii", "replace")
    shape = Shape(tokens, heads, key_dim, value_dim, Dtype(dtype))
    return Header(name, group, shape, layer, layers, first, sequence, length, check)
