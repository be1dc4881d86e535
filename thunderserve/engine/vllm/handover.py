"""From the attendant of a prefill instance to that of a decode instance: go on with this request. Two lines of JSON there.

Back comes ``begun`` when the decode instance has given its first token, which it cannot before it has the keys and values.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from thunderserve.engine.messages import Submit, decode, encode

MOST_BYTES = 64 << 20
BEGUN = b"begun\n"
Taken = Callable[[Submit, dict[str, Any], Callable[[], None]], Awaitable[None]]
"""Serves a request; calls back when it has begun. Raises when it will not be served."""


async def hand_over(host: str, port: int, submit: Submit, params: dict[str, Any]) -> None:
    """Returns when the other side has begun.

    Raises:
        OSError: the other side has gone, or will not serve it.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=MOST_BYTES)
    try:
        writer.write(encode(submit) + json.dumps(params).encode() + b"\n")
        await writer.drain()
        answer = await reader.readline()
        if answer != BEGUN:
            raise ConnectionError(answer.decode("utf-8", "replace").strip() or "the decode side has gone")
    finally:
        writer.transport.abort()


class Door:
    """Where requests are handed over."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._server: asyncio.Server | None = None

    async def open(self, host: str) -> tuple[str, int]:
        """Listen, and say where."""
        self._server = await asyncio.start_server(self._serve, host, 0, limit=MOST_BYTES)
        found: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return found

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            submit, params = decode(await reader.readline()), json.loads(await reader.readline())
            if not isinstance(submit, Submit):
                raise TypeError(f"a {type(submit).__name__} is handed over")
            await self._taken(submit, params, lambda: writer.write(BEGUN))
        except asyncio.CancelledError:
            pass
        except Exception as error:  # whatever it is, the other side hears of it
            writer.write(f"{error or type(error).__name__}\n".encode())
        with suppress(OSError):
            await writer.drain()
            writer.close()
