"""Transfers that go well, and the ways in which either side says no."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.engine.transfer.desk import PIECE_BYTES, PIECE_TOKENS, pieces
from thunderserve.engine.transfer.events import Broken, Completed, Confirmed, Failed
from thunderserve.engine.transfer.warm import warm_up
from thunderserve.kv.kernels.quantise import encode_channels
from thunderserve.kv.wire.arrays import empty
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.contract import Dtype
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.serving.batcher import schedule
from thunderserve.spec.kv import KvCodec


def send(pair, number, layers, tokens, data, **rest):
    out = pair.start(number, layers, tokens, **rest)
    for layer in range(layers):
        out.put(layer, 0, *data[layer])
    out.close(b"tail")
    return out


def test_one_transfer_arrives_bit_for_bit(make, parts):
    pair = make()
    data = [parts.kv(7, seed=layer) for layer in range(3)]
    send(pair, 5, 3, 7, data, note=b"hello")
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
    send(pair, 1, 2, 70, data, codec=codec)
    assert isinstance(pair.until_ended(1)[0], Confirmed)
    for arrived, (k, v) in zip(pair.worker.layers[1], data, strict=True):
        twin = Decoder().decode(Encoder(load(codec)).encode(k, v))
        np.testing.assert_array_equal(arrived.k, twin.k)
        np.testing.assert_array_equal(arrived.v, twin.v)


def test_the_group_size_of_a_plan_travels_with_the_packet(make, parts):
    pair = make()
    noun = KvCodec(name="int4", bits=4, group_size=8, group_overhead_bits=32)
    k, v = parts.kv(16)
    send(pair, 1, 1, 16, [(k, v)], codec=noun)
    pair.until_ended(1)
    np.testing.assert_array_equal(pair.worker.layers[1][0].k, Decoder().decode(Encoder(load(noun)).encode(k, v)).k)


def test_tensors_of_bfloat16_come_out_as_tensors(make):
    torch = pytest.importorskip("torch")
    pair = make(receiver={"tensors": True})
    k, v = torch.randn(5, 2, 8).bfloat16(), torch.randn(5, 2, 8).bfloat16()
    send(pair, 1, 1, 5, [(k, v)])
    pair.until_ended(1)
    arrived = pair.worker.layers[1][0]
    assert torch.equal(arrived.k, k)
    assert torch.equal(arrived.v, v)


def test_nothing_is_sent_before_the_grant_and_the_lease_does_not_end_while_the_receiver_beats(make, parts):
    pair = make(grant=False)
    send(pair, 1, 1, 500, [parts.kv(500)])
    limit_s = time.monotonic() + 1.5 * parts.QUICK.lease_s
    pair.until(lambda: time.monotonic() > limit_s)
    assert not pair.ends
    assert pair.worker.layers[1] == []
    assert pair.receiver.grant(1)
    assert isinstance(pair.until_ended(1)[0], Confirmed)


def test_a_refusal_reaches_the_sender_in_words(make, parts):
    pair = make(grant=False)
    send(pair, 1, 1, 5, [parts.kv(5)])
    pair.until(lambda: 1 in pair.worker.offers)
    assert pair.receiver.refuse(1, "no room for 5 tokens")
    assert pair.until_ended(1) == [Failed(1, "no room for 5 tokens")]
    assert not pair.receiver.refuse(1, "again")
    assert not pair.receiver.grant(1)


def test_the_receiver_may_refuse_after_everything_came(make, parts):
    pair = make(confirm=False)
    send(pair, 1, 1, 5, [parts.kv(5)])
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
    out = send(pair, 1, 1, 5, [parts.kv(5)])
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


def test_numbers_are_free_again_after_the_end(make, parts):
    pair = make()
    for turn in range(3):
        pair.worker.ends.clear()
        pair.ends.clear()
        send(pair, 9, 1, 5, [parts.kv(5, seed=turn)])
        with pytest.raises(ValueError, match="runs"):
            pair.start(9, 1, 5)
        pair.until_ended(9)
        np.testing.assert_array_equal(pair.worker.layers[9][0].k, parts.kv(5, seed=turn)[0])


def test_a_number_offered_by_another_sender_ends_the_first(make, parts):
    first, second = make(grant=False), make()
    first.start(3, 1, 5)
    first.until(lambda: 3 in first.worker.offers)
    send(second, 3, 1, 5, [parts.kv(5)], address=first.receiver.address)
    assert first.until_ended(3) == [Failed(3, "it was offered anew")]
    first.until(lambda: isinstance(first.worker.ends.get(3), Broken))
    first.until(lambda: 3 in first.receiver._by_id)
    first.worker.ends.clear()
    first.receiver.grant(3)
    first.until(lambda: isinstance(first.worker.ends.get(3), Completed))


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
    send(pair, 1, 1, 64, [(k, v)], codec="int4")
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
    out = send(pair, 1, 1, 5, [parts.kv(5)])
    with pytest.raises(ValueError, match="too late"):
        out.put(0, 0, *parts.kv(5))
    with pytest.raises(ValueError, match="no layer 1"):
        out.put(1, 0, *parts.kv(5))
    with pytest.raises(ValueError, match="before"):
        out.close()
    pair.until_ended(1)


def test_closing_both_sides_ends_everything(make, parts):
    pair = make(grant=False)
    send(pair, 1, 1, 5, [parts.kv(5)])
    pair.until(lambda: 1 in pair.worker.offers)
    pair.sender.close()
    assert pair.sender.events.poll() == [Failed(1, "the sender closed")]
    pair.until(lambda: 1 in pair.worker.ends)
    assert pair.worker.ends[1] == Broken(1, "the sender closed")
    with pytest.raises(ValueError, match="closed"):
        pair.start(2, 1, 5)


def test_sixty_transfers_at_once_over_several_connections(make, parts):
    pair = make(sender={"connections": 3})
    data = {n: [parts.kv(6 + n % 5, seed=100 * n + layer) for layer in range(4)] for n in range(60)}
    for n, layers in data.items():
        send(pair, n, 4, 6 + n % 5, layers)
    assert all(isinstance(end, Confirmed) for end in pair.until_ended(*data))
    for n, layers in data.items():
        for arrived in pair.worker.layers[n]:
            np.testing.assert_array_equal(arrived.k, layers[arrived.layer][0])


def test_the_older_of_two_transfers_leaves_first(make, parts):
    pair = make(grant=False)
    for n in (1, 2):
        send(pair, n, 12, 50, [parts.kv(50)] * 12)
    pair.until(lambda: len(pair.worker.offers) == 2)
    pair.until(lambda: all(out._encoded == 12 for out in pair.sender._desk.live.values()))
    with pair.sender._desk.lock:  # neither grant is heard before the other
        assert all(pair.receiver.grant(n) for n in (2, 1))
        for out in pair.sender._desk.live.values():
            out._granted_s = 0.0
    order = []
    while len(order) < 24:
        event = pair.worker.turn(1.0)
        if type(event).__name__ == "Arrived":
            order.append(event.id)
    assert order == [1] * 12 + [2] * 12
    pair.until_ended(1, 2)


def test_an_older_transfer_without_a_layer_to_send_holds_no_younger_up(make, parts):
    pair = make()
    older = pair.start(1, 2, 50)
    older.put(0, 0, *parts.kv(50))
    pair.until(lambda: pair.worker.layers.get(1))
    send(pair, 2, 2, 50, [parts.kv(50)] * 2)
    assert isinstance(pair.until_ended(2)[0], Confirmed)
    older.put(1, 0, *parts.kv(50))
    older.close()
    assert isinstance(pair.until_ended(1)[0], Confirmed)


def test_a_large_layer_is_cut_where_no_code_changes(make, parts):
    pair = make()
    k, v = parts.kv(3000, heads=12, dim=64)
    send(pair, 1, 1, 3000, [(k, v)], codec="int4")
    pair.until_ended(1)
    arrived = sorted(pair.worker.layers[1], key=lambda a: a.first_token)
    assert len(arrived) > 1
    assert all(a.first_token % 256 == 0 for a in arrived)
    whole = Decoder().decode(Encoder(load("int4")).encode(k, v))
    np.testing.assert_array_equal(np.concatenate([a.k for a in arrived]), whole.k)
    np.testing.assert_array_equal(np.concatenate([a.v for a in arrived]), whole.v)


@given(st.integers(1, 5000), st.integers(1, 200_000))
def test_pieces_are_the_whole_and_none_is_large(tokens, token_bytes):
    found = pieces(tokens, tokens * token_bytes)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
    assert found[-1][1] == tokens
    assert all((b - a) * token_bytes <= max(PIECE_BYTES, PIECE_TOKENS * token_bytes) for a, b in found)
    assert all(a % PIECE_TOKENS == 0 for a, _ in found)


def test_codecs_let_other_threads_run_and_simulations_do_not():
    assert encode_channels.targetoptions["nogil"]
    assert not schedule.targetoptions["nogil"]


@pytest.mark.parametrize("dtype", list(Dtype))
def test_warming_up_compiles_what_a_transfer_needs(dtype):
    warm_up(["raw", KvCodec(name="int4", bits=4, group_size=32, group_overhead_bits=32)], dtype)
    known = len(encode_channels.signatures)
    k = empty(300, 3, 64, dtype)
    k[:] = 1
    Decoder().decode(Encoder(load("int4")).encode(k.transpose(0, 1, 2)[::2], k[::2]))
    assert len(encode_channels.signatures) == known


def test_an_idle_sender_and_receiver_give_their_threads_back(make, parts):
    pair = make(limits=parts.QUICK._replace(lease_s=0.2))
    send(pair, 1, 1, 5, [parts.kv(5)])
    pair.until_ended(1)
    pair.until(lambda: not pair.sender._roads and not pair.receiver._peers)
    send(pair, 2, 1, 5, [parts.kv(5)])
    assert isinstance(pair.until_ended(2)[0], Confirmed)
