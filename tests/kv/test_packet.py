"""Packets: the same bytes everywhere, and nothing but whole, unharmed ones is decoded."""

import hashlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.kv.wire.catalogue import load, names
from thunderserve.kv.wire.checksum import xxh64
from thunderserve.kv.wire.header import FIELDS, HEADER_BYTES, PacketError, read_header
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.kv.wire.stream import Arrival, packets

SHIPPED = [name for name in names() if name != "lossless"]


def packet(name="int4", tokens=70, **place):
    if name == "lossless":
        pytest.importorskip("zstandard", reason="the lossless codec needs zstandard")
    x = np.random.default_rng(tokens).standard_normal((tokens, 2, 32)).astype(np.float16)
    return bytes(Encoder(load(name)).encode(x, -x, **place))


def resealed(data, **changes):
    """``data`` with header fields changed and both checksums made right again: an adversary's packet, or a bug's."""
    fields = "magic version size codec group dtype layout layer layers heads key_dim value_dim tokens first sequence length check"
    values = dict(zip(fields.split(), FIELDS.unpack_from(data), strict=True))
    payload = changes.pop("payload", data[HEADER_BYTES:])
    values |= {"length": len(payload), "check": xxh64(payload)} | changes
    head = FIELDS.pack(*values.values())
    return head + struct.pack("<Q", xxh64(head)) + payload


def test_a_header_says_what_was_sent():
    header = read_header(packet("int2", layer=3, layers=30, first_token=512, sequence=1 << 40))
    assert (header.codec, header.group, header.layer, header.layers) == ("int2", 32, 3, 30)
    assert (header.first_token, header.sequence, tuple(header.shape)) == (512, 1 << 40, (70, 2, 32, 32, 1))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("raw", "0e267e05891653a1"),
        ("int8", "40c8e72078283da1"),
        ("int4", "03a169efd389eb48"),
        ("int2", "e5ef5ced3f089f47"),
        ("int4-rotated", "7bd356a169d0e2be"),
        ("fp8", "90f35cdba93817bb"),
    ],
)
def test_the_bytes_of_version_1_never_change(name, digest):
    """Multiples of 1/64 and 1/128, so that no library's random numbers or rounding can differ between machines."""
    x = (np.arange(100 * 3 * 40) * 7919 % 2001 - 1000).reshape(100, 3, 40)
    k, v = (x / 64).astype(np.float16), (x[::-1] / 128).astype(np.float16)
    data = bytes(Encoder(load(name)).encode(k, v, layer=1, layers=2, first_token=5, sequence=9))
    assert hashlib.sha256(data).hexdigest()[:16] == digest


@given(data=st.data(), name=st.sampled_from([*SHIPPED, "lossless"]), tokens=st.sampled_from([0, 1, 70]))
@settings(max_examples=300, deadline=None)
def test_a_truncated_packet_is_refused(data, name, tokens):
    whole = packet(name, tokens)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(PacketError, match="truncated"):
        Decoder().decode(whole[:length])


@given(data=st.data(), name=st.sampled_from([*SHIPPED, "lossless"]), tokens=st.sampled_from([0, 1, 70]))
@settings(max_examples=500, deadline=None)
def test_a_damaged_packet_is_refused(data, name, tokens):
    whole = bytearray(packet(name, tokens))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
    if bytes(whole) == packet(name, tokens):
        return  # damaged twice at one place, back to what it was
    with pytest.raises(PacketError):
        Decoder().decode(whole)


@given(data=st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_foreign_bytes_are_refused(data):
    with pytest.raises(PacketError, match=r"truncated|foreign"):
        Decoder().decode(data)


@given(data=st.binary(max_size=300), name=st.sampled_from([*SHIPPED, "lossless"]))
@settings(max_examples=300, deadline=None)
def test_a_sealed_packet_with_another_payload_is_refused_or_decoded_to_its_shape(data, name):
    """Checksums made right again over any payload: sizes and ends still stand between it and memory."""
    try:
        found = Decoder().decode(resealed(packet(name), payload=data))
    except PacketError:
        return
    assert found.k.shape == (70, 2, 32)


@given(
    data=st.data(),
    name=st.sampled_from(["int8", "int4", "int2", "int4-rotated", "fp8", "lossless"]),
)
@settings(max_examples=200, deadline=None)
def test_a_sealed_packet_never_decodes_to_what_is_not_finite(data, name):
    whole = packet(name)
    payload = bytearray(whole[HEADER_BYTES:])
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = Decoder().decode(resealed(whole, payload=bytes(payload)))
    except PacketError:
        return
    grouped = 64 if name in ("int8", "int4", "int2") else 0  # the tail of the keys carries any bits
    if name != "lossless":
        assert np.isfinite(found.v).all()
        assert np.isfinite(found.k[:grouped] if grouped else found.k).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"magic": b"PK\3\4"}, "foreign"),
        ({"version": 2}, "version 2; this program reads version 1"),
        ({"size": 128}, "header size 128"),
        ({"layout": 2}, "layout 2"),
        ({"dtype": 9}, "dtype 9"),
        ({"layer": 5}, "layer 5 of 1"),
        ({"tokens": 1 << 60}, "impossible"),
        ({"heads": 0xFFFFFFFF, "key_dim": 0xFFFFFFFF}, "impossible"),
        ({"heads": 0, "tokens": 1 << 40}, "impossible"),
        ({"codec": b"gzip"}, "codec 'gzip', which this program does not have"),
        ({"codec": b"../int4"}, "does not have"),
        ({"codec": b"\xff\xfe"}, "does not have"),
        ({"codec": b"int8"}, "payload"),
        ({"group": 7}, "groups of"),
        ({"tokens": 69}, "payload"),
        ({"tokens": 71}, "payload"),
        ({"check": 1}, "damaged: the payload"),
        ({"length": 1}, "too long"),
        ({"length": 1 << 63}, "truncated"),
    ],
)
def test_every_refusal_says_why(changes, match):
    with pytest.raises(PacketError, match=match):
        Decoder().decode(resealed(packet(), **changes))


def test_bytes_behind_a_packet_are_refused():
    with pytest.raises(PacketError, match="too long"):
        Decoder().decode(packet() + b"\0")


@pytest.mark.parametrize("offset", [1, 3, 4])
def test_a_packet_may_lie_anywhere_in_memory(offset):
    whole = packet()
    moved = memoryview(bytes(offset) + whole)[offset:]
    np.testing.assert_array_equal(Decoder().decode(moved).k, Decoder().decode(whole).k)


class Drip(io.RawIOBase):
    """A socket that gives a few bytes at a time."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, size=-1):
        piece = self.data[self.at : self.at + min(size, 37)]
        self.at += len(piece)
        return piece


def test_layers_arrive_one_by_one_and_are_decoded_at_once():
    sent = [packet("int4", 70, layer=layer, layers=3, sequence=7) for layer in range(3)]
    arrival, decoder = Arrival(), Decoder()
    for layer, data in enumerate(packets(Drip(b"".join(sent)))):
        assert data == sent[layer]
        arrival.add(decoder.decode(data).header)
        assert arrival.missing(70) == list(range(layer + 1, 3))


@given(cut=st.integers(1, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_stream_that_ends_inside_a_packet_says_so(cut):
    data = packet() + packet()
    rest = len(data) - 1 - cut % (len(data) - 1)
    if rest == len(packet()):
        return
    with pytest.raises(PacketError, match="the stream ended"):
        list(packets(io.BytesIO(data[:rest])))


def test_a_reader_takes_no_more_memory_than_it_wants():
    with pytest.raises(PacketError, match="more than the 100 that this reader takes"):
        list(packets(io.BytesIO(packet()), most_bytes=100))


def test_windows_and_chunks_arrive():
    """Layer 0 sees all 100 tokens, in two chunks; layer 1 has a sliding window of 30."""
    arrival = Arrival()
    place = {"layers": 2, "sequence": 1}
    arrival.add(read_header(packet("raw", 40, layer=0, first_token=60, **place)))
    arrival.add(read_header(packet("raw", 30, layer=1, first_token=70, **place)))
    assert arrival.missing(100) == []
    assert arrival.missing(101) == [0, 1]
    arrival.add(read_header(packet("raw", 50, layer=0, first_token=0, **place)))
    assert arrival.missing(100) == [0]  # tokens 50 to 60 are not there
    arrival.add(read_header(packet("raw", 10, layer=0, first_token=50, **place)))
    assert arrival.missing(100) == []


def test_what_does_not_belong_is_refused():
    arrival = Arrival()
    arrival.add(read_header(packet("raw", 10, layers=2, sequence=1)))
    for data, match in (
        (packet("raw", 10, layers=2, sequence=1), "twice"),
        (packet("raw", 5, layers=2, first_token=9, sequence=1), "twice"),
        (packet("raw", 10, layer=1, layers=2, sequence=2), "foreign"),
        (packet("raw", 10, layer=1, layers=3, sequence=1), "foreign"),
    ):
        with pytest.raises(PacketError, match=match):
            arrival.add(read_header(data))


def plain_xxh64(data):
    """The specification, slowly, in Python's integers."""
    mask = (1 << 64) - 1
    p = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)

    def turn(x, by):
        return ((x << by) | (x >> (64 - by))) & mask

    def round_(lane, word):
        return turn((lane + word * p[1]) & mask, 31) * p[0] & mask

    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data) // 8 * 8, 8)]
    rest, total = data[len(words) * 8 :], p[4]
    stripes = len(words) // 4
    if stripes:
        lanes = [(p[0] + p[1]) & mask, p[1], 0, -p[0] & mask]
        for i in range(stripes * 4):
            lanes[i % 4] = round_(lanes[i % 4], words[i])
        total = sum(turn(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & mask
        for lane in lanes:
            total = ((total ^ round_(0, lane)) * p[0] + p[3]) & mask
    total = (total + len(data)) & mask
    for word in words[stripes * 4 :]:
        total = (turn(total ^ round_(0, word), 27) * p[0] + p[3]) & mask
    if len(rest) >= 4:
        total = (turn(total ^ (int.from_bytes(rest[:4], "little") * p[0] & mask), 23) * p[1] + p[2]) & mask
        rest = rest[4:]
    for byte in rest:
        total = turn(total ^ (byte * p[4] & mask), 11) * p[0] & mask
    total = (total ^ (total >> 33)) * p[1] & mask
    total = (total ^ (total >> 29)) * p[2] & mask
    return total ^ (total >> 32)


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_the_checksum_is_xxh64(data):
    assert xxh64(data) == plain_xxh64(data)


def test_the_checksum_matches_published_values():
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
