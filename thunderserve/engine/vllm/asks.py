"""The question that a decode rank puts to a prefill rank: send me these keys and values. One line of JSON there, one back."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from thunderserve.engine.vllm.remote import Way
from thunderserve.engine.vllm.shard import Kind, Shard, kind_from, shard_from

MOST_BYTES = 1 << 16
CONNECT_S = 3.0
ANSWER_S = 25.0
AT_ONCE = 16
"""Questions that are answered at the same time; others wait their turn at the socket."""


class Ask(NamedTuple):
    """Send the tokens from ``first`` to ``tokens`` of ``request`` as transfer ``transfer`` to ``address``.

    With ``first`` equal to ``tokens`` nothing is to be sent: the asker has it all, or wants nothing.
    """

    request: str
    transfer: int
    address: tuple[str, int]
    first: int
    tokens: int
    part: Shard
    way: Way
    readers: int
    """Ranks that will ask this one for a part of this request."""
    kind: Kind


class RefusedError(Exception):
    """The other instance will not send it; in words."""


def ask_from(line: bytes) -> Ask:
    """The inverse of writing one.

    Raises:
        ValueError: it is no question of this kind.
    """
    try:
        given: dict[str, Any] = json.loads(line)
        host, port = given["address"]
        return Ask(
            str(given["request"]), int(given["transfer"]), (str(host), int(port)), int(given["first"]),
            int(given["tokens"]), shard_from(given["part"]), Way(*given["way"]), int(given["readers"]),
            kind_from(given["kind"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a question of this protocol: {error!r}") from error


def put(ask: Ask, host: str, port: int) -> None:
    """Ask a rank.

    Raises:
        RefusedError: it says no.
        OSError: it cannot be reached, or does not answer.
    """
    with socket.create_connection((host, port), CONNECT_S) as connection:
        connection.settimeout(ANSWER_S)
        connection.sendall(json.dumps(ask._asdict()).encode() + b"\n")
        try:
            answer = json.loads(_line(connection))
        except ValueError as error:
            raise ConnectionError(f"{host}:{port} does not speak this protocol: {error}") from error
    if refused := answer.get("refused"):
        raise RefusedError(str(refused))


def _line(connection: socket.socket) -> bytes:
    found = bytearray()
    while not found.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece or len(found) > MOST_BYTES:
            raise ConnectionError("the other side ended the connection, or says too much")
        found += piece
    return bytes(found)


class Desk:
    """Listens for questions and answers them by ``answer``, which raises RefusedError for a no."""

    def __init__(self, host: str, answer: Callable[[Ask], None]) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=128)
        self.port = int(self._socket.getsockname()[1])
        self._answer = answer
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kv-answer-ask")
        self._thread = threading.Thread(target=self._run, name="kv-asked", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                self._closing.wait(0.1)  # cut; or out of descriptors, which may pass
                continue
            self._pool.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(ANSWER_S)
            try:
                self._answer(ask_from(_line(connection)))
                said = {"refused": ""}
            except (RefusedError, ValueError) as error:
                said = {"refused": str(error) or "no"}
            connection.sendall(json.dumps(said).encode() + b"\n")
