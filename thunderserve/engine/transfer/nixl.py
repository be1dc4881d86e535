"""NIXL as a transport: the same stream of bytes, written into the other side's registered memory by whatever UCX finds.

Each side keeps a ring that the other writes into. A TCP connection beside it exchanges what NIXL needs to know, says how far each
ring is filled and emptied, and breaks when the other side dies. Frames, checksums, codecs and retries are those of any transport.
Tried on CPUs, over shared memory; RDMA and GPUs were not at hand. It needs ``pip install nixl``.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import threading
import time
from typing import Any

import numpy as np

from thunderserve.engine.transfer.transport import Address, Connection, TcpListener

RING_BYTES, CHUNK_BYTES = 32 << 20, 4 << 20
GREETING, NOTE = struct.Struct("<IQQ"), struct.Struct("<BQ")
WRITTEN, CONSUMED = 1, 2
GREETING_S = 10.0
SPINS, PAUSE_S = 200, 50e-6
"""Looks at a write before the first pause, and the pause."""


class NixlConnection:
    """See ``Connection``. Raises OSError when the other side does not greet, or NIXL cannot reach it."""

    def __init__(self, sock: socket.socket, silence_s: float) -> None:
        from nixl._api import nixl_agent, nixl_agent_config

        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._silence_s = sock, silence_s
        self._agent: Any = nixl_agent(secrets.token_hex(8), nixl_agent_config(backends=["UCX"]))
        self._ring, self._staging = np.zeros(RING_BYTES, np.uint8), np.zeros(CHUNK_BYTES, np.uint8)
        self._memory = self._agent.register_memory(
            [(one.ctypes.data, one.nbytes, 0, "") for one in (self._ring, self._staging)], "DRAM"
        )
        self._changed, self._saying = threading.Condition(), threading.Lock()
        self._cut = False
        self._written = self._peer_consumed = self._arrived = self._consumed = self._told = 0
        self._half = b""
        try:
            self._greet()
        except BaseException:
            self.close()
            raise
        sock.settimeout(silence_s)

    def send(self, data: bytes | memoryview) -> None:
        """See ``Connection``."""
        view = memoryview(data).cast("B")
        while view:
            count = min(self._room(), len(view), CHUNK_BYTES)
            self._staging[:count] = view[:count]
            self._write(self._written % self._peer_bytes, count)
            self._written += count
            self._say(WRITTEN, self._written)
            view = view[count:]

    def receive_into(self, view: memoryview) -> int:
        """See ``Connection``."""
        while not (ready := self._arrived - self._consumed):
            if not self._hear():
                return 0
        begin = self._consumed % RING_BYTES
        count = min(ready, len(view), RING_BYTES - begin)
        view[:count] = self._ring[begin : begin + count].data
        self._consumed += count
        if self._consumed - self._told >= RING_BYTES // 4:
            self._told = self._consumed
            self._say(CONSUMED, self._told)
        return count

    def cut(self) -> None:
        """See ``Connection``."""
        with self._changed:
            self._cut = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See ``Connection``."""
        self._socket.close()
        if self._agent is not None:
            self._agent.deregister_memory(self._memory)
            self._agent = None

    def _greet(self) -> None:
        """Tell where the ring is and how it is reached; learn the same."""
        self._socket.settimeout(GREETING_S)
        own: bytes = self._agent.get_agent_metadata()
        self._socket.sendall(GREETING.pack(len(own), self._ring.ctypes.data, RING_BYTES) + own)
        size, address, room = GREETING.unpack(self._exactly(GREETING.size))
        self._peer_address, self._peer_bytes = int(address), int(room)
        try:
            self._peer = self._agent.add_remote_agent(self._exactly(size))
        except OSError:
            raise
        except Exception as error:  # NIXL has a type for every kind of trouble
            raise ConnectionError(f"NIXL does not reach the other side: {error}") from error

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._socket.recv(size - len(found))
            if not piece:
                raise ConnectionError("the other side has gone in the middle of its greeting")
            found += piece
        return found

    def _room(self) -> int:
        """Bytes that may be written in one piece; waits for some."""
        with self._changed:
            self._changed.wait_for(lambda: self._cut or self._free() > 0)
            if self._cut:
                raise ConnectionError("the connection was cut")
            return min(self._free(), self._peer_bytes - self._written % self._peer_bytes)

    def _free(self) -> int:
        return self._peer_bytes - self._written + self._peer_consumed

    def _write(self, offset: int, count: int) -> None:
        """From the staging memory into the other side's ring; returns when it is there."""
        try:
            state = self._put(offset, count)
        except OSError:
            raise
        except Exception as error:  # NIXL has a type for every kind of trouble
            raise ConnectionError(f"NIXL: {error or type(error).__name__}") from error
        if state != "DONE":
            raise ConnectionError(f"NIXL: a write ended as {state}")

    def _put(self, offset: int, count: int) -> str:
        local = self._agent.get_xfer_descs([(self._staging.ctypes.data, count, 0)], "DRAM")
        remote = self._agent.get_xfer_descs([(self._peer_address + offset, count, 0)], "DRAM")
        handle = self._agent.initialize_xfer("WRITE", local, remote, self._peer)
        try:
            state, looks, until_s = self._agent.transfer(handle), 0, time.monotonic() + self._silence_s
            while state == "PROC":
                looks += 1
                if looks > SPINS:
                    time.sleep(PAUSE_S)
                if self._cut or time.monotonic() > until_s:
                    raise ConnectionError("a write into the other side's memory did not end")
                state = self._agent.check_xfer_state(handle)
        finally:
            self._agent.release_xfer_handle(handle)
        return str(state)

    def _say(self, kind: int, total: int) -> None:
        with self._saying:
            self._socket.sendall(NOTE.pack(kind, total))

    def _hear(self) -> bool:
        """One note of the other side; False when it has ended."""
        while len(self._half) < NOTE.size:
            piece = self._socket.recv(NOTE.size - len(self._half))
            if not piece:
                return False
            self._half += piece
        kind, total = NOTE.unpack(self._half)
        self._half = b""
        with self._changed:
            if kind == WRITTEN:
                self._arrived = total
            else:
                self._peer_consumed = total
            self._changed.notify_all()
        return True


class NixlListener(TcpListener):
    """A listening socket: NIXL's connections begin over TCP."""

    def accept(self) -> Connection:
        """See ``Listener``; who does not greet is turned away."""
        while True:
            sock, _ = self._socket.accept()
            with contextlib.suppress(OSError):
                return NixlConnection(sock, self._silence_s)
            sock.close()


class Nixl:
    """See ``Transport``. Raises ValueError where NIXL is not installed."""

    def __init__(self) -> None:
        from importlib.util import find_spec

        if find_spec("nixl") is None:
            raise ValueError("the transport nixl needs the package of this name: pip install nixl")

    def connect(self, address: Address, *, timeout_s: float, silence_s: float) -> Connection:
        """See ``Transport``."""
        return NixlConnection(socket.create_connection(address, timeout_s), silence_s)

    def listen(self, address: Address, *, silence_s: float) -> NixlListener:
        """See ``Transport``."""
        return NixlListener(address, silence_s)
