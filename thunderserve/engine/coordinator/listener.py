"""The door for workers: one connection each, read until it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from thunderserve.engine.coordinator.peer import Peer
from thunderserve.engine.messages import VERSION, Hello, Message, MessageError, decode

log = logging.getLogger(__name__)
LINE_BYTES = 64 << 20
"""A longer message is refused."""
HELLO_S = 10.0
"""Whoever connects says hello within this time: a worker connects when it is ready to."""


class House(Protocol):
    """Who is told what workers say."""

    def joined(self, peer: Peer) -> None:
        """A worker has said hello."""

    def heard(self, peer: Peer, message: Message) -> None:
        """A worker has said something else. Raises ValueError for what no worker says."""

    def left(self, peer: Peer, reason: str) -> None:
        """Its connection has ended."""


class Listener:
    """Waits for workers.

    Args:
        house: is told.
        replicas: how many there are; a worker with another number is turned away.
    """

    def __init__(self, house: House, replicas: int) -> None:
        self._house, self._replicas = house, replicas
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and say where. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=LINE_BYTES)
        found: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return found

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        try:
            await self._attend(reader, writer)
        except asyncio.CancelledError:
            log.debug("the line of %s is closed", writer.get_extra_info("peername"))
        finally:
            writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                hello = self._checked(await reader.readline())
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("%s is not a worker: %s", writer.get_extra_info("peername"), error)
            return
        peer = Peer(hello, writer)
        self._house.joined(peer)
        reason = "it hung up"
        try:
            while line := await reader.readline():
                self._house.heard(peer, decode(line))
        except (OSError, ValueError) as error:  # ValueError: a line without end, or no message
            reason = str(error) or type(error).__name__
        except asyncio.CancelledError:
            reason = "the coordinator ends"
            raise
        finally:
            self._house.left(peer, reason)

    def _checked(self, line: bytes) -> Hello:
        hello = decode(line)
        if not isinstance(hello, Hello):
            raise MessageError(f"it said {type(hello).__name__} before hello")
        if hello.version != VERSION:
            raise MessageError(f"it speaks version {hello.version}, not {VERSION}")
        if not 0 <= hello.replica < self._replicas:
            raise MessageError(f"it is replica {hello.replica} of {self._replicas}")
        return hello
