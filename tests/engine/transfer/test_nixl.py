"""Transfers over NIXL, where it is installed (CPU, shared memory): the stream itself, and what TCP is asked as well."""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest

from thunderserve.engine.transfer import nixl
from thunderserve.engine.transfer.events import Confirmed, Failed
from thunderserve.engine.transfer.nixl import Nixl

pytestmark = pytest.mark.skipif(find_spec("nixl") is None, reason="NIXL is not installed: pip install nixl")


@pytest.fixture
def ends():
    transport = Nixl()
    listener = transport.listen(("127.0.0.1", 0), silence_s=5.0)
    found = []
    thread = threading.Thread(target=lambda: found.append(listener.accept()))
    thread.start()
    near = transport.connect(listener.address, timeout_s=5.0, silence_s=5.0)
    thread.join(20)
    yield near, found[0]
    for one in (near, found[0]):
        one.cut()
        one.close()
    listener.cut()
    listener.close()


def read(connection, size):
    buffer = bytearray(size)
    view, place = memoryview(buffer), 0
    while place < size:
        count = connection.receive_into(view[place : place + 100_003])
        assert count
        place += count
    return bytes(buffer)


def test_bytes_arrive_in_order_more_than_the_ring_holds_both_ways(ends):
    near, far = ends
    size = 2 * nixl.RING_BYTES + 12_345
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    back = []
    reader = threading.Thread(target=lambda: back.append(read(near, 1000)))  # who sends must listen, as a sender does
    reader.start()
    sender = threading.Thread(target=near.send, args=(data,))
    sender.start()
    assert read(far, size) == data
    far.send(data[:1000])
    for thread in (sender, reader):
        thread.join(20)
    assert back == [data[:1000]]


def test_the_end_and_a_cut_are_noticed(ends):
    near, far = ends
    near.send(b"last words")
    near.cut()
    assert read(far, 10) == b"last words"
    assert far.receive_into(memoryview(bytearray(10))) == 0
    with pytest.raises(OSError, match="cut"):
        near.send(b"x")


def test_who_does_not_greet_is_turned_away(monkeypatch):
    import socket

    monkeypatch.setattr(nixl, "GREETING_S", 0.2)
    listener = Nixl().listen(("127.0.0.1", 0), silence_s=1.0)
    found = []
    thread = threading.Thread(target=lambda: found.append(listener.accept()))
    thread.start()
    with socket.create_connection(listener.address):
        time.sleep(0.5)
    good = Nixl().connect(listener.address, timeout_s=2.0, silence_s=1.0)
    thread.join(20)
    assert found
    for one in (good, found[0], listener):
        one.cut()
        one.close()


def test_transfers_arrive_and_a_dead_receiver_is_told(make, parts):
    patient = parts.QUICK._replace(silence_s=10.0, connect_s=5.0, lease_s=20.0, stall_s=20.0, retries=3)
    pair = make(limits=patient, sender={"transport": Nixl()}, receiver={"transport": Nixl()})
    data = [parts.kv(300, seed=layer) for layer in range(4)]
    for number in (1, 2):
        pair.send(number, 4, 300, data, codec="int4" if number == 2 else "raw")
    assert all(isinstance(end, Confirmed) for end in pair.until_ended(1, 2))
    for arrived, (k, v) in zip(pair.worker.layers[1], data, strict=True):
        np.testing.assert_array_equal(arrived.k, k)
        np.testing.assert_array_equal(arrived.v, v)
    pair.receiver.close()
    out = pair.start(3, 4, 300)
    out.put(0, 0, *data[0])
    assert isinstance(pair.until_ended(3)[0], Failed)
