"""A network that breaks, damages and falls silent; sides that die; and bounds on memory."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thunderserve.engine.transfer.events import Arrived, Broken, Completed, Confirmed, Failed, Offered
from thunderserve.engine.transfer.frames import FRAME_BYTES, Frame, Kind, Offer, control, read_head, with_body
from thunderserve.engine.transfer.receiver import Receiver
from thunderserve.engine.transfer.sender import Sender
from thunderserve.engine.transfer.transport import Tcp
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.packet import Decoder, Encoder


@pytest.fixture
def relay(parts):
    made = []

    def start(target):
        made.append(parts.Relay(target))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_cut_connection_is_made_again_and_only_what_was_missing_is_sent(make, parts, relay):
    pair = make()
    way = relay(pair.receiver.address)
    out = pair.start(1, 4, 100, address=way.address)
    for layer in range(3):
        out.put(layer, 0, *parts.kv(100, seed=layer))
    pair.until(lambda: not out._packets and out._encoded == 3)
    (road,) = pair.sender._roads.values()
    before = road._connection
    way.cut()
    pair.until(lambda: road._connection is not before)  # what is sent before the cut is noticed is sent again
    out.put(3, 0, *parts.kv(100, seed=3))
    out.close()
    (end,) = pair.until_ended(1)
    assert isinstance(end, Confirmed)
    assert end.bytes == 4 * (96 + 2 * 100 * 2 * 16 * 2), "acknowledged layers are not sent again"
    assert [a.layer for a in pair.worker.layers[1]] == [0, 1, 2, 3]


def test_a_confirmation_that_was_lost_is_said_again(make, parts, relay):
    pair = make(confirm=False)
    way = relay(pair.receiver.address)
    out = pair.start(1, 1, 5, address=way.address)
    out.put(0, 0, *parts.kv(5))
    out.close()
    pair.until(lambda: 1 in pair.receiver._by_id and pair.receiver._by_id[1].completed)
    way.flowing.clear()  # the confirmation gets stuck here, and dies with the connection
    assert pair.receiver.confirm(1)
    time.sleep(0.05)
    way.cut()
    way.flowing.set()
    assert isinstance(pair.until_ended(1)[0], Confirmed)


def test_an_offer_that_is_read_late_does_not_win_over_a_newer_connection(make, parts):
    """A connection that was given up may be read after the one that took its place."""
    pair = make(grant=False)
    offer = Offer(7, 5, 1, "raw", b"").write()
    with socket.create_connection(pair.receiver.address) as old, socket.create_connection(pair.receiver.address) as new:
        new.sendall(control(Kind.OFFER, 99, 2, offer))
        pair.until(lambda: 7 in pair.worker.offers)
        old.sendall(control(Kind.OFFER, 99, 1, offer) + control(Kind.ABORT, 1234))
        frames = reading(old)
        assert next(f for f in frames if f.kind != Kind.BEAT).token == 1234, "the old connection has been read"
        pair.receiver.grant(7)
        assert next(f for f in reading(new) if f.kind != Kind.BEAT) == Frame(Kind.GRANT, 99)


def reading(sock):
    while True:
        frame = read_head(sock.recv(FRAME_BYTES, socket.MSG_WAITALL), 0)
        yield with_body(frame, sock.recv(frame.size, socket.MSG_WAITALL)) if frame.size else frame


def test_silence_of_the_network_ends_both_sides_by_their_leases(make, parts, relay):
    pair = make()
    way = relay(pair.receiver.address)
    out = pair.start(1, 2, 5, address=way.address)
    out.put(0, 0, *parts.kv(5))
    pair.until(lambda: pair.worker.layers.get(1))
    way.flowing.clear()
    start_s = time.monotonic()
    (end,) = pair.until_ended(1)
    pair.until(lambda: 1 in pair.worker.ends)
    assert end == Failed(1, "the receiver was not heard from for 1.5 s")
    assert pair.worker.ends[1] == Broken(1, "the sender was not heard from for 1.5 s")
    assert 1.0 < time.monotonic() - start_s < 10
    assert pair.sender.held_bytes == 0


def test_nobody_at_the_address_fails_in_words(make, parts):
    pair = make()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()[:2]
    out = pair.start(1, 1, 5, address=address)
    out.put(0, 0, *parts.kv(5))
    (end,) = pair.until_ended(1)
    assert f"127.0.0.1:{address[1]} failed 9 times in a row" in end.reason
    assert "refused" in end.reason


def test_a_receiver_that_dies_fails_the_transfer_and_one_that_comes_back_takes_the_next(make, parts):
    pair = make()
    out = pair.start(1, 2, 5)
    out.put(0, 0, *parts.kv(5))
    pair.until(lambda: pair.worker.layers.get(1))
    address = pair.receiver.address
    pair.receiver.close()
    assert isinstance(pair.until_ended(1)[0], Failed)
    again = Receiver(address, limits=parts.QUICK)
    try:
        second = parts.Pair(pair.sender, parts.Worker(again))
        out = second.start(2, 1, 5)
        out.put(0, 0, *parts.kv(5))
        out.close()
        assert isinstance(second.until_ended(2)[0], Confirmed)
    finally:
        again.close()


def test_a_worker_that_never_answers_is_given_up(make, parts):
    pair = make(limits=parts.QUICK._replace(stall_s=0.3), grant=False)
    pair.start(1, 1, 5)
    assert pair.until_ended(1) == [Failed(1, "the receiver did not grant room for 0.3 s")]
    pair.until(lambda: 1 in pair.worker.ends)
    assert isinstance(pair.worker.ends[1], Broken)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n" + bytes(100), bytes(range(256)) * 4])
def test_strangers_are_turned_away_and_do_no_harm(make, parts, noise):
    pair = make()
    with socket.create_connection(pair.receiver.address) as stranger:
        stranger.sendall(noise)
        stranger.settimeout(parts.WAIT_S)
        while stranger.recv(1000):
            pass  # it hears beats until it is turned away
    out = pair.start(1, 1, 5)
    out.put(0, 0, *parts.kv(5))
    out.close()
    assert isinstance(pair.until_ended(1)[0], Confirmed)


def test_another_version_of_the_protocol_is_named(make, parts):
    head = bytearray(control(Kind.BEAT))
    head[4] = 2
    with socket.create_server(("127.0.0.1", 0)) as server:
        pair = make(limits=parts.QUICK._replace(retries=1))
        pair.start(1, 1, 5, address=server.getsockname()[:2])

        def answer():
            for _ in range(2):
                sock, _ = server.accept()
                with sock:
                    sock.sendall(head)
                    sock.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        (end,) = pair.until_ended(1)
        thread.join()
    assert "speaks version 2 of the protocol, this program version 1" in end.reason


class Flips:
    """Harms the body of every packet in the same place, the frame never."""

    def __init__(self, times):
        self.times = times

    def connect(self, address, **rest):
        inner = Tcp().connect(address, **rest)
        send, flips = inner.send, self

        def harmed(data):
            view = memoryview(data)
            if len(view) > 1000 and flips.times > 0:
                flips.times -= 1
                view = bytearray(view)
                view[120] ^= 4
            send(view)

        inner.send = harmed
        return inner

    def listen(self, address, **rest):
        return Tcp().listen(address, **rest)


def test_a_damaged_packet_is_asked_for_again_over_the_same_connection(make, parts):
    pair = make(sender={"transport": Flips(2)})
    out = pair.start(1, 1, 50)
    k, v = parts.kv(50)
    out.put(0, 0, k, v)
    out.close()
    (end,) = pair.until_ended(1)
    assert end.bytes == 3 * (96 + k.nbytes + v.nbytes)
    np.testing.assert_array_equal(pair.worker.layers[1][0].k, k)
    assert len(pair.worker.layers[1]) == 1


def test_a_packet_that_is_always_damaged_fails_in_words(make, parts):
    pair = make(limits=parts.QUICK._replace(retries=2), sender={"transport": Flips(1000)})
    out = pair.start(1, 1, 50)
    pair.until(lambda: 1 in pair.worker.offers)
    out.put(0, 0, *parts.kv(50))
    out.close()
    (end,) = pair.until_ended(1)
    assert end.reason == "packet 0 arrived damaged 3 times: damaged: the payload does not match its checksum"
    pair.until(lambda: pair.worker.ends.get(1) == Broken(1, end.reason))


def test_a_sender_that_takes_no_more_fails_rather_than_fill_the_memory(make, parts):
    pair = make(limits=parts.QUICK._replace(most_bytes=100_000), grant=False)
    out = pair.start(1, 100, 100)
    most = 0
    for layer in range(100):
        out.put(layer, 0, *parts.kv(100))
        most = max(most, pair.sender.held_bytes)
    assert most <= 100_000
    assert "takes no more" in pair.until_ended(1)[0].reason
    assert pair.sender.held_bytes == 0


def test_a_worker_that_takes_nothing_stops_the_sender_and_not_the_heart_beat(make, parts):
    k, v = parts.kv(1000)  # 128 KB a layer
    limits = parts.QUICK._replace(most_bytes=3 * (k.nbytes + v.nbytes))
    pair = make(limits=limits, grant=False)
    sender = Sender(limits=parts.QUICK)
    try:
        pair.sender, unused = sender, pair.sender
        out = pair.start(1, 200, 1000)
        for layer in range(200):
            out.put(layer, 0, k, v)
        out.close()
        pair.until(lambda: 1 in pair.worker.offers)
        pair.receiver.grant(1)
        limit_s = time.monotonic() + 2 * parts.QUICK.silence_s
        while time.monotonic() < limit_s:  # longer than a dead connection would be kept
            assert pair.receiver.events.bytes <= limits.most_bytes
            time.sleep(0.02)
        (end,) = pair.until_ended(1)
        assert isinstance(end, Confirmed)
        assert len(pair.worker.layers[1]) == 200
    finally:
        pair.sender = unused
        sender.close()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.sampled_from([60, 500, 4000, 20_000]), st.integers(0, 8))
def test_whatever_the_network_does_both_sides_agree(parts, seed, harm_bytes, most):
    """Random layer orders, chunks, codecs, cuts, flipped bits and cancels."""
    rng = random.Random(seed)
    before = set(threading.enumerate())
    network = parts.Cutting(Tcp(), seed, harm_bytes, most)
    worker = parts.Worker(Receiver(limits=parts.QUICK))
    pair = parts.Pair(
        Sender(limits=parts.QUICK._replace(retries=20), transport=network, connections=rng.choice([1, 2])), worker
    )
    try:
        jobs = {n: Job(parts, pair, rng, n) for n in range(rng.randrange(1, 6))}
        while any(job.pieces for job in jobs.values()):
            rng.choice([job for job in jobs.values() if job.pieces]).step(rng)
        for _ in range(rng.choice([0, 0, 1, 2])):
            n = rng.choice(list(jobs))
            if rng.random() < 0.5:
                jobs[n].out.abort("cancelled by the sender")
            elif pair.receiver.refuse(n, "cancelled by the receiver"):
                worker.ends[n] = Broken(n, "refused")
        pair.until_ended(*jobs)
        pair.until(lambda: all(n in worker.ends or n not in worker.offers for n in jobs))
        for n, job in jobs.items():
            confirmed = isinstance(pair.ends[n], Confirmed)
            assert confirmed == isinstance(worker.ends.get(n), Completed), (pair.ends[n], worker.ends.get(n))
            if confirmed:
                job.check(worker.layers[n], worker.ends[n].tail)
        assert pair.sender.held_bytes == 0
        assert pair.receiver.live == 0
    finally:
        pair.sender.close()
        pair.receiver.close()
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("kv-")]
    assert not network.open
    assert not worker.receiver.events.poll()


class Job:
    """One transfer of the property test: its layers in chunks, in a random order."""

    def __init__(self, parts, pair, rng, number):
        self.layers, self.tokens = rng.randrange(1, 5), rng.randrange(1, 80)
        self.codec = rng.choice(["raw", "raw", "int4", "int8"])
        self.data = [parts.kv(self.tokens, seed=rng.randrange(1 << 30)) for _ in range(self.layers)]
        self.pieces, self.tail = [], rng.randbytes(rng.randrange(5))
        for layer in range(self.layers):
            inner = sorted({rng.randrange(1, self.tokens) for _ in range(rng.randrange(3))} if self.tokens > 1 else ())
            edges = [0, *inner, self.tokens]
            self.pieces += [(layer, a, b) for a, b in itertools.pairwise(edges)]
        rng.shuffle(self.pieces)
        self.sent = list(self.pieces)
        self.out = pair.start(number, self.layers, self.tokens, codec=self.codec)

    def step(self, rng):
        layer, a, b = self.pieces.pop()
        k, v = self.data[layer]
        self.out.put(layer, a, k[a:b], v[a:b])
        if not self.pieces:
            self.out.close(self.tail)

    def check(self, arrived, tail):
        assert tail == self.tail
        assert sorted((a.layer, a.first_token, a.first_token + len(a.k)) for a in arrived) == sorted(self.sent)
        for one in arrived:
            a, b = one.first_token, one.first_token + len(one.k)
            twin = Decoder().decode(Encoder(load(self.codec)).encode(*(x[a:b] for x in self.data[one.layer])))
            np.testing.assert_array_equal(one.k, twin.k)
            np.testing.assert_array_equal(one.v, twin.v)


@given(st.binary(min_size=FRAME_BYTES, max_size=FRAME_BYTES))
def test_random_bytes_are_no_frame(head):
    with pytest.raises(ConnectionError):
        read_head(head, 1 << 20)


@given(st.integers(0, 8 * FRAME_BYTES - 1))
def test_every_flipped_bit_of_a_frame_is_noticed(bit):
    head = bytearray(control(Kind.GRANT, 12345))
    head[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ConnectionError):
        read_head(head, 1 << 20)


def test_events_of_an_ended_transfer_are_gone_from_the_inbox(make, parts):
    pair = make()
    out = pair.start(1, 3, 5)
    pair.until(lambda: 1 in pair.worker.offers)
    for layer in range(2):
        out.put(layer, 0, *parts.kv(5))
    limit_s = time.monotonic() + parts.WAIT_S
    while pair.receiver.events.bytes < 2 * 2 * 320 and time.monotonic() < limit_s:
        time.sleep(0.005)
    assert pair.receiver.refuse(1, "changed its mind")
    assert pair.receiver.events.bytes == 0
    assert not [e for e in pair.receiver.events.poll() if isinstance(e, Arrived | Offered)]
    assert pair.until_ended(1) == [Failed(1, "changed its mind")]
