"""Packets: a header and a payload for each layer of each sequence, written into one buffer and read without a copy."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.kv.kernels.contract import Kernels
from thunderserve.kv.wire.arrays import block, bytes_dtype, empty, tensor
from thunderserve.kv.wire.catalogue import load, names
from thunderserve.kv.wire.checksum import xxh64
from thunderserve.kv.wire.contract import Block, Codec, CodecError, Shape
from thunderserve.kv.wire.header import HEADER_BYTES, Header, PacketError, read_header
from thunderserve.spec.kv import CODECS, KvCodec

if sys.byteorder != "little":
    raise ImportError("KV packets are little-endian, and the kernels write them in the byte order of the machine")


class Layer(NamedTuple):
    """One decoded packet. ``k`` and ``v``: arrays (int16 bits for bfloat16), tensors, or the caller's own, as asked for."""

    header: Header
    k: Any
    v: Any


class Encoder:
    """Writes packets with one codec. One a thread; its buffer is used again by the next call, and no more is allocated."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._buffer = _aligned(HEADER_BYTES)
        self._device_buffer: Any = None

    def encode(
        self, k: Any, v: Any, *, layer: int = 0, layers: int = 1, first_token: int = 0, sequence: int = 0
    ) -> memoryview:
        """The packet of one layer: keys and values of shape (tokens, heads, dim), of one dtype, with any strides.

        The packet is valid until the next call; ``bytes(packet)`` keeps it.

        Raises:
            CodecError: shapes that do not fit, or values that the codec cannot carry.
        """
        keys, values = block(k), block(v)
        shape = shape_of(keys, values)
        if not 0 <= layer < layers:
            raise CodecError(f"there is no layer {layer} of {layers}")
        most = HEADER_BYTES + self.codec.payload_bytes(shape)
        if self._buffer.size < most:
            self._buffer = _aligned(most)
        used = self._payload(keys, values, most - HEADER_BYTES)
        payload = self._buffer[HEADER_BYTES : HEADER_BYTES + used]
        noun = self.codec.noun
        header = Header(noun.name, noun.group_size, shape, layer, layers, first_token, sequence, used, xxh64(payload))
        header.write(self._buffer.data)
        return self._buffer.data[: HEADER_BYTES + used].toreadonly()

    def _payload(self, keys: Block, values: Block, most: int) -> int:
        """Write the payload into the buffer, by way of the GPU's memory when keys and values are there (not yet run on a GPU)."""
        target = self._buffer[HEADER_BYTES : HEADER_BYTES + most]
        if isinstance(keys.memory, np.ndarray):
            return self.codec.encode(keys, values, target)
        if self._device_buffer is None or len(self._device_buffer) < most:
            self._device_buffer = keys.memory.new_zeros(-(-most // 8) * 8, dtype=bytes_dtype())
        used = self.codec.encode(keys, values, self._device_buffer[:most])
        target[:used] = self._device_buffer[:used].cpu().numpy()
        return used


class Decoder:
    """Reads packets of any codec. One a thread; it keeps the codecs it has met.

    ``kernels`` are those of the CPU unless given; with ``Gpu()``, ``into`` must be tensors there.
    """

    def __init__(self, kernels: Kernels | None = None) -> None:
        self._kernels = kernels
        self._codecs: dict[tuple[str, int], Codec] = {}

    def decode(self, packet: Any, into: tuple[Any, Any] | None = None, *, tensors: bool = False) -> Layer:
        """Keys and values of a packet, in the dtype they were sent in.

        Args:
            packet: all bytes of one packet and no more.
            into: arrays or tensors to fill, of the packet's shape and dtype, with any strides (a slice of a cache).
            tensors: give torch tensors rather than arrays.

        Raises:
            PacketError: the bytes are not a whole, unharmed packet that this program understands.
        """
        view = memoryview(packet).cast("B")
        header = read_header(view)
        codec = self._codec(header)
        payload = checked_payload(header, codec, view)
        k, v = into if into is not None else _room(header.shape)
        keys, values = block(k), block(v)
        if into is not None and shape_of(keys, values) != header.shape:
            raise CodecError(f"the packet holds {header.shape}, the room is for {shape_of(keys, values)}")
        try:
            codec.decode(moved(payload, keys), keys, values)
        except CodecError as error:
            raise PacketError(str(error)) from error
        if tensors and into is None:
            k, v = tensor(k), tensor(v)
        return Layer(header, k, v)

    def _codec(self, header: Header) -> Codec:
        key = (header.codec, header.group)
        if key not in self._codecs:
            if header.codec not in names():
                raise PacketError(f"written with the codec {header.codec!r}, which this program does not have")
            noun = CODECS.get(header.codec, KvCodec(name=header.codec, bits=16))
            try:
                self._codecs[key] = load(noun.model_copy(update={"group_size": header.group}), self._kernels)
            except CodecError as error:
                raise PacketError(str(error)) from error
        return self._codecs[key]


def checked_payload(header: Header, codec: Codec, packet: memoryview) -> NDArray[np.uint8]:
    """The payload of ``packet``, when it is all there and unharmed; aligned (moved, when the packet was not)."""
    held = len(packet) - HEADER_BYTES
    if held != header.payload_bytes:
        word = "truncated" if held < header.payload_bytes else "too long"
        raise PacketError(f"{word}: {held} bytes of payload, the header says {header.payload_bytes}")
    if header.payload_bytes > codec.payload_bytes(header.shape):
        raise PacketError(
            f"{header.payload_bytes} bytes of payload are more than {header.codec} writes for {header.shape}"
        )
    payload = np.frombuffer(packet, np.uint8, offset=HEADER_BYTES) if held else np.zeros(0, np.uint8)
    if xxh64(payload) != header.payload_checksum:
        raise PacketError("damaged: the payload does not match its checksum")
    if payload.__array_interface__["data"][0] % 8:
        moved = _aligned(payload.size)
        moved[:] = payload
        return moved
    return payload


def moved(payload: NDArray[np.uint8], near: Block) -> Any:
    """``payload`` where ``near`` is: as it is, or on its GPU."""
    if isinstance(near.memory, np.ndarray):
        return payload
    return near.memory.new_zeros(payload.size, dtype=bytes_dtype()).copy_(tensor(payload.copy()))


def shape_of(k: Block, v: Block) -> Shape:
    """The shape that both blocks make together.

    Raises:
        CodecError: they are not keys and values of the same tokens.
    """
    if (k.tokens, k.heads, k.dtype) != (v.tokens, v.heads, v.dtype):
        raise CodecError(
            f"keys have {k.tokens} tokens, {k.heads} heads, {k.dtype.name}; values {v.tokens}, {v.heads}, {v.dtype.name}"
        )
    if min(k.heads, k.dim, v.dim) < 1:
        raise CodecError(f"{k.heads} heads of {k.dim} and {v.dim} channels hold nothing to send")
    return Shape(k.tokens, k.heads, k.dim, v.dim, k.dtype)


def _room(shape: Shape) -> tuple[NDArray[Any], NDArray[Any]]:
    tokens, heads, key_dim, value_dim, dtype = shape
    return empty(tokens, heads, key_dim, dtype), empty(tokens, heads, value_dim, dtype)


def _aligned(size: int) -> NDArray[np.uint8]:
    return np.zeros(-(-size // 8), np.uint64).view(np.uint8)[:size] if size else np.zeros(0, np.uint8)
