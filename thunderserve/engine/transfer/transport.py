"""The seam to the network: bytes in, the same bytes out. TCP is here, NIXL in ``nixl.py``.

NCCL could stand here too: a connection is a communicator of two ranks made at launch; after the failure of one it cannot be made
again, so ``connect`` would fail and retries end there. It is not built: no machine with GPUs was at hand.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Protocol

Address = tuple[str, int]


class Connection(Protocol):
    """A stream of bytes in both directions. One thread sends, one receives, any may ``cut``."""

    def send(self, data: bytes | memoryview) -> None:
        """All of ``data``, however long that takes. Raises OSError once the connection is cut or broken."""

    def receive_into(self, view: memoryview) -> int:
        """Some bytes, at least one; 0 when the other side has ended. Raises TimeoutError after a silence, OSError when broken."""

    def cut(self) -> None:
        """Wake whoever sends or receives; both fail from now on. Any number of times."""

    def close(self) -> None:
        """Give everything back, when nobody sends or receives any more."""


class Listener(Protocol):
    """Where connections come in."""

    @property
    def address(self) -> Address:
        """To connect to; the port is the real one."""

    def accept(self) -> Connection:
        """The next connection; waits. Raises OSError once cut."""

    def cut(self) -> None:
        """Wake who waits in ``accept``."""

    def close(self) -> None:
        """Give everything back."""


class Transport(Protocol):
    """Makes connections. ``silence_s``: how long ``receive_into`` waits for the first byte."""

    def connect(self, address: Address, *, timeout_s: float, silence_s: float) -> Connection:
        """To a listener. Raises OSError when there is none within ``timeout_s``."""

    def listen(self, address: Address, *, silence_s: float) -> Listener:
        """At an address; port 0 takes a free one."""


class TcpConnection:
    """A socket."""

    def __init__(self, sock: socket.socket, silence_s: float) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(silence_s)
        self._socket = sock
        self._cut = False

    def send(self, data: bytes | memoryview) -> None:
        """See ``Connection``. A receiver that reads nothing for long is no error: its beats tell whether it lives."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except TimeoutError:
                if self._cut:
                    raise

    def receive_into(self, view: memoryview) -> int:
        """See ``Connection``."""
        return self._socket.recv_into(view)

    def cut(self) -> None:
        """See ``Connection``."""
        self._cut = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See ``Connection``."""
        self._socket.close()


class TcpListener:
    """A listening socket."""

    def __init__(self, address: Address, silence_s: float) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=128)
        self._silence_s = silence_s

    @property
    def address(self) -> Address:
        """See ``Listener``."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def accept(self) -> Connection:
        """See ``Listener``."""
        sock, _ = self._socket.accept()
        return TcpConnection(sock, self._silence_s)

    def cut(self) -> None:
        """See ``Listener``. On Linux a shutdown wakes ``accept``."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See ``Listener``."""
        self._socket.close()


class Tcp:
    """The transport of the engine."""

    def connect(self, address: Address, *, timeout_s: float, silence_s: float) -> Connection:
        """See ``Transport``."""
        return TcpConnection(socket.create_connection(address, timeout_s), silence_s)

    def listen(self, address: Address, *, silence_s: float) -> Listener:
        """See ``Transport``."""
        return TcpListener(address, silence_s)
