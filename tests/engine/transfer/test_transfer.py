"""Transfers that go well, and the ways in which either side says no."""

from __future__ import annotations

import time

import numpy as np
import pytest

from thunderserve.engine.transfer.events import Broken, Completed, Confirmed, Failed
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.spec.kv import KvCodec


def test_one_transfer_arrives_bit_for_bit(make, parts):
    pair = make()
    data = [parts.kv(7, seed=layer) for layer in range(3)]
    pair.send(5, 3, 7, data, note=b"hello")
    (end,) = pair.until_ended(5)
    assert isinstance(end, Confirmed)
    assert pair.worker.offers[5] == (5, 7, 3, "raw", b"hello")
    assert [(a.layer, a.first_token) for a in pair.worker.layers[5]] == [(0, 0), (1, 0), (2, 0)]
    for arrived, (k, v) in zip(pair.worker.layers[5], data, strict=True):
        np.testing.assert_array_equal(arrived.k, k)
        np.testing.assert_array_equal(arrived.v, v)
    done = pair.worker.ends[5]
    assert isinstance(done, Completed)
    assert done.tail == b"tail"
    assert done.bytes == end.bytes == 3 * (96 + 2 * 7 * 2 * 16 * 2)
    assert end.start_s <= done.start_s <= done.end_s <= end.end_s


@pytest.mark.parametrize("codec", ["int8", "int4", "int2", "int4-rotated", "fp8", "lossless"])
def test_a_codec_changes_values_as_it_does_without_a_network(make, parts, codec):
    pytest.importorskip("zstandard") if codec == "lossless" else None
    pair = make()
    data = [parts.kv(70, seed=layer) for layer in range(2)]
    pair.send(1, 2, 70, data, codec=codec)
    assert isinstance(pair.until_ended(1)[0], Confirmed)
    for arrived, (k, v) in zip(pair.worker.layers[1], data, strict=True):
        twin = Decoder().decode(Encoder(load(codec)).encode(k, v))
        np.testing.assert_array_equal(arrived.k, twin.k)
        np.testing.assert_array_equal(arrived.v, twin.v)


def test_the_group_size_of_a_plan_travels_with_the_packet(make, parts):
    pair = make()
    noun = KvCodec(name="int4", bits=4, group_size=8, group_overhead_bits=32)
    k, v = parts.kv(16)
    pair.send(1, 1, 16, [(k, v)], codec=noun)
    pair.until_ended(1)
    np.testing.assert_array_equal(pair.worker.layers[1][0].k, Decoder().decode(Encoder(load(noun)).encode(k, v)).k)


def test_tensors_of_bfloat16_come_out_as_tensors(make):
    torch = pytest.importorskip("torch")
    pair = make(receiver={"tensors": True})
    k, v = torch.randn(5, 2, 8).bfloat16(), torch.randn(5, 2, 8).bfloat16()
    pair.send(1, 1, 5, [(k, v)])
    pair.until_ended(1)
    arrived = pair.worker.layers[1][0]
    assert torch.equal(arrived.k, k)
    assert torch.equal(arrived.v, v)


def test_nothing_is_sent_before_the_grant_and_the_lease_does_not_end_while_the_receiver_beats(make, parts):
    pair = make(grant=False)
    pair.send(1, 1, 500, [parts.kv(500)])
    limit_s = time.monotonic() + 1.5 * parts.QUICK.lease_s
    pair.until(lambda: time.monotonic() > limit_s)
    assert not pair.ends
    assert pair.worker.layers[1] == []
    assert pair.receiver.grant(1)
    assert isinstance(pair.until_ended(1)[0], Confirmed)


def test_a_refusal_reaches_the_sender_in_words(make, parts):
    pair = make(grant=False)
    pair.send(1, 1, 5, [parts.kv(5)])
    pair.until(lambda: 1 in pair.worker.offers)
    assert pair.receiver.refuse(1, "no room for 5 tokens")
    assert pair.until_ended(1) == [Failed(1, "no room for 5 tokens")]
    assert not pair.receiver.refuse(1, "again")
    assert not pair.receiver.grant(1)


def test_the_receiver_may_refuse_after_everything_came(make, parts):
    pair = make(confirm=False)
    pair.send(1, 1, 5, [parts.kv(5)])
    pair.until(lambda: len(pair.worker.layers.get(1, ())) == 1 and pair.receiver._by_id[1].completed)
    assert pair.receiver.refuse(1, "cancelled")
    assert pair.until_ended(1) == [Failed(1, "cancelled")]
    assert not pair.receiver.confirm(1)


def test_an_abort_breaks_the_receiver_and_is_answered(make, parts):
    pair = make(confirm=False)
    out = pair.start(1, 2, 5)
    out.put(0, 0, *parts.kv(5))
    pair.until(lambda: pair.worker.layers.get(1))
    out.abort("the client has gone")
    assert pair.until_ended(1) == [Failed(1, "the client has gone")]
    pair.until(lambda: 1 in pair.worker.ends)
    assert pair.worker.ends[1] == Broken(1, "the client has gone")
    out.put(1, 0, *parts.kv(5))  # the worker's next step may still be on its way
    assert pair.sender.held_bytes == 0


def test_an_abort_that_comes_after_the_confirmation_is_too_late(make, parts):
    pair = make(confirm=False)
    out = pair.send(1, 1, 5, [parts.kv(5)])
    pair.until(lambda: 1 in pair.receiver._by_id and pair.receiver._by_id[1].completed)
    with pair.sender._desk.lock:  # the confirmation cannot be heard before the abort
        assert pair.receiver.confirm(1)
        out.abort("too late")
    assert isinstance(pair.until_ended(1)[0], Confirmed)


def test_to_confirm_before_the_end_is_an_error(make, parts):
    pair = make()
    pair.start(1, 1, 5)
    pair.until(lambda: 1 in pair.worker.offers)
    with pytest.raises(ValueError, match="before it was completed"):
        pair.receiver.confirm(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": 0}, "cannot offer"),
        ({"tokens": 0}, "cannot offer"),
        ({"codec": "a-name-that-is-too-long"}, "cannot offer"),
        ({"number": -1}, "64 bits"),
    ],
)
def test_what_cannot_be_offered_is_refused_at_once(make, change, words):
    pair = make()
    with pytest.raises(ValueError, match=words):
        pair.start(**{"number": 1, "layers": 1, "tokens": 5, **change})


def test_a_codec_that_the_receiver_does_not_have(make, parts):
    pair = make()
    pair.start(1, 1, 5, codec="int3")
    assert pair.until_ended(1) == [Failed(1, "the receiver has no codec 'int3'")]


def test_values_that_the_codec_cannot_carry_fail_in_words(make, parts):
    pair = make()
    k, v = parts.kv(64)
    k[3, 1, 2] = np.nan
    pair.send(1, 1, 64, [(k, v)], codec="int4")
    (end,) = pair.until_ended(1)
    assert "layer 0 cannot be encoded: NaN or infinity among the keys" in end.reason
    assert pair.sender.held_bytes == 0


def test_closing_with_a_layer_missing_fails_on_both_sides(make, parts):
    pair = make()
    out = pair.start(1, 3, 5)
    pair.until(lambda: 1 in pair.worker.offers)
    out.put(0, 0, *parts.kv(5))
    out.put(2, 0, *parts.kv(4))
    out.close()
    (end,) = pair.until_ended(1)
    assert end.reason == "closed before all of 5 tokens were there in layer 1, 2"
    pair.until(lambda: 1 in pair.worker.ends)
    assert pair.worker.ends[1] == Broken(1, end.reason)


def test_the_same_tokens_twice_and_tokens_beyond_the_end_fail(make, parts):
    pair = make()
    twice, beyond = pair.start(1, 1, 5), pair.start(2, 1, 5)
    for _ in range(2):
        twice.put(0, 0, *parts.kv(5))
    beyond.put(0, 2, *parts.kv(5))
    ends = pair.until_ended(1, 2)
    assert "tokens 0 to 5 twice" in ends[0].reason
    assert "beyond the 5" in ends[1].reason


def test_misuse_of_the_handle_is_an_error(make, parts):
    pair = make()
    out = pair.send(1, 1, 5, [parts.kv(5)])
    with pytest.raises(ValueError, match="too late"):
        out.put(0, 0, *parts.kv(5))
    with pytest.raises(ValueError, match="no layer 1"):
        out.put(1, 0, *parts.kv(5))
    with pytest.raises(ValueError, match="before"):
        out.close()
    pair.until_ended(1)


def test_closing_both_sides_ends_everything(make, parts):
    pair = make(grant=False)
    pair.send(1, 1, 5, [parts.kv(5)])
    pair.until(lambda: 1 in pair.worker.offers)
    pair.sender.close()
    assert pair.sender.events.poll() == [Failed(1, "the sender closed")]
    pair.until(lambda: 1 in pair.worker.ends)
    assert pair.worker.ends[1] == Broken(1, "the sender closed")
    with pytest.raises(ValueError, match="closed"):
        pair.start(2, 1, 5)


def test_an_idle_sender_and_receiver_give_their_threads_back(make, parts):
    pair = make(limits=parts.QUICK._replace(lease_s=0.2))
    pair.send(1, 1, 5, [parts.kv(5)])
    pair.until_ended(1)
    pair.until(lambda: not pair.sender._roads and not pair.receiver._peers)
    pair.send(2, 1, 5, [parts.kv(5)])
    assert isinstance(pair.until_ended(2)[0], Confirmed)
