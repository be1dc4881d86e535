"""A throttled transfer takes alpha + n / beta: exactly in made-up time, nearly in real time."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.engine.transfer.events import Completed
from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.link import Bucket, Link, send_paced


class MadeUp:
    """A clock that moves when somebody sleeps, always a little too long."""

    def __init__(self, late_s=0.0):
        self.time_s, self.late_s = 100.0, late_s

    def now(self):
        return self.time_s

    def sleep(self, seconds):
        self.time_s += seconds + self.late_s


rates = st.floats(1e4, 1e10)
latencies = st.floats(0, 0.2)
sizes = st.lists(st.integers(1, 300_000), min_size=1, max_size=12)


@given(rates, latencies, sizes)
def test_packets_that_wait_take_alpha_plus_bytes_over_beta(rate, latency_s, packets):
    clock, bucket, out = MadeUp(), Bucket(Link(rate, latency_s)), bytearray()
    for size in packets:
        send_paced(memoryview(bytes(size)), 100.0, bucket, clock, out.extend)
    assert len(out) == sum(packets)
    assert clock.now() - 100.0 == pytest.approx(latency_s + sum(packets) / rate, rel=1e-9, abs=1e-9)


@given(rates, latencies, st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 0.5)), min_size=1, max_size=12))
def test_an_idle_link_waits_for_its_packets_and_latency_is_paid_once_each(rate, latency_s, packets):
    """Against the recursion of a queue: a packet starts when it is ready and the one before it is through."""
    clock, bucket = MadeUp(), Bucket(Link(rate, latency_s))
    ready_s = free_s = 100.0
    for size, gap_s in packets:
        ready_s += gap_s
        clock.time_s = max(clock.time_s, ready_s)
        free_s = max(free_s, ready_s) + size / rate
        send_paced(memoryview(bytes(size)), ready_s, bucket, clock, lambda piece: None)
        assert clock.now() == pytest.approx(max(free_s + latency_s, clock.now()), abs=1e-9)
    assert clock.now() == pytest.approx(free_s + latency_s, rel=1e-9)


def test_late_awakenings_do_not_add_up():
    clock, bucket = MadeUp(late_s=0.002), Bucket(Link(1e6))
    for _ in range(100):
        send_paced(memoryview(bytes(10_000)), 100.0, bucket, clock, lambda piece: None)
    assert clock.now() - 100.0 == pytest.approx(1.0, abs=0.004)


def test_what_a_blocked_network_did_not_carry_is_not_caught_up_with():
    clock, bucket, blocked = MadeUp(), Bucket(Link(1e6, 0.01)), [2.0]

    def send(piece):
        clock.time_s += blocked.pop() if blocked else 0.0

    send_paced(memoryview(bytes(1_000_000)), 100.0, bucket, clock, send)
    assert clock.now() - 100.0 == pytest.approx(0.01 + 1.0 + 2.0, rel=0.01)


def test_an_open_link_does_not_wait():
    clock, sent = MadeUp(), []
    send_paced(memoryview(bytes(10_000_000)), 100.0, Bucket(Link()), clock, sent.append)
    assert clock.now() == 100.0
    assert len(sent) == 1


@pytest.mark.parametrize("link", [Link(0.0), Link(-1.0), Link(1.0, -0.1)])
def test_links_that_cannot_be(link):
    with pytest.raises(ValueError, match="positive rate"):
        Bucket(link)


@pytest.mark.parametrize("limits", [{"lease_s": 0.0}, {"beat_s": 2.0, "silence_s": 3.0}])
def test_limits_that_cannot_be(limits):
    with pytest.raises(ValueError, match=r"positive|too rare"):
        Limits(**limits).checked()


def lasting(pair, parts, transfers, layers, link, **rest):
    """Seconds from the grant to the last completion, and the bytes sent."""
    outs = [pair.start(n, layers, 200, link=link, **rest) for n in range(transfers)]
    for out in outs:
        for layer in range(layers):
            out.put(layer, 0, *parts.kv(200))
        out.close()
    pair.until(lambda: len(pair.worker.offers) == transfers)
    pair.until(lambda: all(out._encoded == layers for out in outs))
    start_s = time.monotonic()
    for n in range(transfers):
        pair.receiver.grant(n)
    pair.until(lambda: all(isinstance(pair.worker.ends.get(n), Completed) for n in range(transfers)))
    end_s = max(pair.worker.ends[n].end_s for n in range(transfers))
    return end_s - start_s, sum(pair.worker.ends[n].bytes for n in range(transfers))


@pytest.mark.parametrize("transfers", [1, 3])
@pytest.mark.parametrize("connections", [1, 2])
def test_a_real_throttled_transfer_takes_its_time(make, parts, transfers, connections):
    """Also when several share the link, over one connection or two with one name."""
    pair = make(grant=False, sender={"connections": connections})
    link = Link(2e6, 0.03)
    took_s, size = lasting(pair, parts, transfers, 20, link)
    expected_s = 0.03 + size / 2e6
    assert 0.99 * expected_s < took_s < 1.10 * expected_s + 0.05


def test_equal_links_to_different_addresses_are_two_unless_they_have_one_name(make, parts):
    pairs = make(grant=True), make(grant=True)
    sender = pairs[0].sender
    for name, factor in (("", 1), ("uplink", 2)):
        outs = [
            sender.start(n, p.receiver.address, layers=8, tokens=200, link=Link(1e6, 0, name))
            for n, p in enumerate(pairs)
        ]
        start_s = time.monotonic()
        for out in outs:
            for layer in range(8):
                out.put(layer, 0, *parts.kv(200))
            out.close()
        loops = [
            threading.Thread(target=p.until, args=(lambda p=p, n=n: n in p.worker.ends,)) for n, p in enumerate(pairs)
        ]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()
        took_s = max(p.worker.ends[n].end_s for n, p in enumerate(pairs)) - start_s
        expected_s = factor * 8 * (96 + 2 * 200 * 2 * 16 * 2) / 1e6
        assert 0.98 * expected_s < took_s < 1.2 * expected_s + 0.05
        pairs[0].until(
            lambda: {0, 1} <= set(pairs[0].ends)
        )  # both ends heard of, so that none is left for the next round
        for pair in pairs:
            pair.ends.clear()
            pair.worker.ends.clear()
