"""The connection to the coordinator: a thread reads, a thread writes, and the worker's loop never waits for either."""

from __future__ import annotations

import queue
import socket
import threading
from collections import deque
from collections.abc import Callable

from thunderserve.engine.messages import Message, decode, encode


class Line:
    """Messages in both directions.

    Args:
        address: of the coordinator.
        wake: called when there is something to hear.
        connect_s: patience.
    """

    def __init__(self, address: tuple[str, int], wake: Callable[[], None], connect_s: float = 30.0) -> None:
        self._socket = socket.create_connection(address, timeout=connect_s)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wake = wake
        self._heard: deque[Message] = deque()
        self._said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.ended = False
        """The coordinator has gone, or spoke another language: there is nobody to work for."""
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("line-read", self._read), ("line-write", self._write))
        ]
        for thread in self._threads:
            thread.start()

    def say(self, message: Message) -> None:
        """Send it soon."""
        self._said.put(encode(message))

    def hear(self) -> list[Message]:
        """Everything that was said since the last time."""
        found = []
        while self._heard:
            found.append(self._heard.popleft())
        return found

    def close(self) -> None:
        """Say what is still to be said, and hang up."""
        self._said.put(None)
        self._threads[1].join(timeout=5)
        self._socket.close()

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as stream:
                for line in stream:
                    self._heard.append(decode(line))
                    self._wake()
        except (OSError, ValueError):
            pass  # gone, or not a coordinator: the same to a worker
        self.ended = True
        self._wake()

    def _write(self) -> None:
        try:
            while (line := self._said.get()) is not None:
                self._socket.sendall(line)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.ended = True
            self._wake()
