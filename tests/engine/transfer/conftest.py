"""Both sides of transfers, a worker that answers as it should, and a network that misbehaves on demand."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import socket
import threading
import time
import types

import numpy as np
import pytest

from thunderserve.engine.transfer.events import Arrived, Broken, Completed, Confirmed, Failed, Offered
from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.receiver import Receiver
from thunderserve.engine.transfer.sender import Sender
from thunderserve.engine.transfer.warm import warm_up
from thunderserve.kv.wire.contract import Dtype

QUICK = Limits(
    beat_s=0.05, silence_s=0.5, lease_s=1.5, stall_s=5.0, connect_s=0.5, retries=8, pause_s=0.005, most_bytes=64 << 20
)
WAIT_S = 20.0


class Worker:
    """A decode worker's loop: grants, keeps what arrives, confirms."""

    def __init__(self, receiver, grant=True, confirm=True):
        self.receiver, self.granting, self.confirming = receiver, grant, confirm
        self.offers, self.layers, self.ends = {}, {}, {}

    def turn(self, timeout_s=0.01):
        event = self.receiver.events.get(timeout_s)
        if event is None:
            return None
        assert event.id not in self.ends or isinstance(event, Offered), f"{event} after the end"
        if isinstance(event, Offered):
            self.offers[event.id] = event
            self.layers[event.id] = []
            if self.granting:
                self.receiver.grant(event.id)
        elif isinstance(event, Arrived):
            self.layers[event.id].append(event)
        elif isinstance(event, Completed):
            if self.confirming:
                self.ends[event.id] = event if self.receiver.confirm(event.id) else None
        elif isinstance(event, Broken):
            self.ends[event.id] = event
        return event


class Pair:
    """A sender and a worker with a receiver."""

    def __init__(self, sender, worker):
        self.sender, self.worker, self.receiver = sender, worker, worker.receiver
        self.ends = {}

    def start(self, number, layers, tokens, **rest):
        address = rest.pop("address", self.receiver.address)
        return self.sender.start(number, address, layers=layers, tokens=tokens, **rest)

    def send(self, number, layers, tokens, data, **rest):
        """A transfer that has been given ``data``, keys and values by layer, and closed."""
        out = self.start(number, layers, tokens, **rest)
        for layer in range(layers):
            out.put(layer, 0, *data[layer])
        out.close(b"tail")
        return out

    def until(self, done, timeout_s=WAIT_S):
        """Turn both loops until ``done``."""
        limit_s = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < limit_s, f"not in time: sender {self.ends}, receiver {self.worker.ends}"
            self.worker.turn()
            for event in self.sender.events.poll():
                assert isinstance(event, Confirmed | Failed)
                assert event.id not in self.ends, "two ends"
                self.ends[event.id] = event

    def until_ended(self, *numbers):
        self.until(lambda: all(n in self.ends for n in numbers))
        return [self.ends[n] for n in numbers]


def kv(tokens, heads=2, dim=16, seed=0, dtype=np.float16):
    """Keys and values of one layer."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((tokens, heads, dim)).astype(dtype) for _ in "kv")


class Cutting:
    """A network that flips bits or breaks connections after so many bytes; passes everything on unharmed when told to."""

    def __init__(self, inner, seed, harm_bytes, most=6, kinds=("cut", "flip")):
        self.inner, self.random, self.harm_bytes, self.kinds = inner, random.Random(seed), harm_bytes, kinds
        self.left, self.lock, self.open = most, threading.Lock(), set()

    def connect(self, address, *, timeout_s, silence_s):
        return self._wrap(self.inner.connect(address, timeout_s=timeout_s, silence_s=silence_s))

    def listen(self, address, *, silence_s):
        return self.inner.listen(address, silence_s=silence_s)

    def _wrap(self, connection):
        with self.lock:
            self.open.add(connection)
            return Harmed(connection, self, self.random.randrange(1, 2 * self.harm_bytes))

    def harm(self):
        """What happens now, and after how many bytes the next."""
        with self.lock:
            if self.left <= 0:
                return None, 1 << 60
            self.left -= 1
            return self.random.choice(self.kinds), self.random.randrange(1, 2 * self.harm_bytes)


class Harmed:
    """A connection of ``Cutting``; both directions count."""

    def __init__(self, inner, network, budget):
        self.inner, self.network, self.budget = inner, network, budget

    def send(self, data):
        view = memoryview(data)
        if len(view) <= self.budget:
            self.budget -= len(view)
            self.inner.send(view)
            return
        at = self.budget
        kind, self.budget = self.network.harm()
        if kind == "cut":
            self.inner.send(view[:at])
            self.inner.cut()
            raise ConnectionResetError("cut by the test")
        harmed = bytearray(view)
        if kind == "flip":
            harmed[at] ^= 1 << (at % 8)
        self.inner.send(harmed)

    def receive_into(self, view):
        count = self.inner.receive_into(view)
        if count <= self.budget:
            self.budget -= count
            return count
        at = self.budget
        kind, self.budget = self.network.harm()
        if kind == "cut":
            self.inner.cut()
            raise ConnectionResetError("cut by the test")
        if kind == "flip":
            view[at] ^= 1 << (at % 8)
        return count

    def cut(self):
        self.inner.cut()

    def close(self):
        self.network.open.discard(self.inner)
        self.inner.close()


class Relay:
    """Passes one connection after the other on to ``target``; ``stop`` freezes it without a word, ``cut`` resets it."""

    def __init__(self, target):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = self.server.getsockname()[:2]
        self.target, self.sockets, self.threads, self.flowing = target, [], [], threading.Event()
        self.flowing.set()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                near, _ = self.server.accept()
                far = socket.create_connection(self.target)
            except OSError:
                return
            self.sockets += [near, far]
            for a, b in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(a, b), daemon=True)
                self.threads.append(thread)
                thread.start()

    def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flowing.wait()
                target.sendall(data)

    def cut(self):
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.flowing.set()
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.cut()
        for thread in self.threads:
            thread.join()
        for sock in (*self.sockets, self.server):
            sock.close()


@pytest.fixture(scope="session", autouse=True)
def warm():
    """A worker does this before it says hello: limits as short as these leave no time to compile."""
    names = ["raw", "int4", "int8", "int2", "int4-rotated", "fp8"]
    warm_up([*names, "lossless"] if importlib.util.find_spec("zstandard") else names, Dtype.FLOAT16)


@pytest.fixture
def parts():
    """The helpers above, for tests, which cannot import each other."""
    return types.SimpleNamespace(
        Worker=Worker, Pair=Pair, kv=kv, Cutting=Cutting, Relay=Relay, QUICK=QUICK, WAIT_S=WAIT_S
    )


@pytest.fixture
def make():
    """Makes pairs, ends them, and sees that no thread stays."""
    before, made = set(threading.enumerate()), []

    def pair(limits=QUICK, grant=True, confirm=True, sender=None, receiver=None):
        worker = Worker(Receiver(limits=limits, **(receiver or {})), grant, confirm)
        made.append(Pair(Sender(limits=limits, **(sender or {})), worker))
        return made[-1]

    yield pair
    for one in made:
        one.sender.close()
        one.receiver.close()
        assert one.sender.held_bytes == 0
        assert not one.sender.live
        assert not one.receiver.live
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("kv-")]
    assert not left, left
