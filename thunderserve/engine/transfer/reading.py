"""Reading exactly so many bytes of a connection."""

from __future__ import annotations

from collections.abc import Callable

from thunderserve.engine.transfer.transport import Connection

SKIP_BYTES = 1 << 16


def fill(connection: Connection, view: memoryview, heard: Callable[[], None], *, may_end: bool = False) -> bool:
    """Fill ``view``; false when the other side ended before its first byte and ``may_end``.

    Args:
        connection: read by this thread only.
        view: bytes to write to.
        heard: called whenever something came.
        may_end: whether an end is in order here.

    Raises:
        ConnectionError: it ended, or was silent for too long.
        OSError: it broke.
    """
    done = 0
    while done < len(view):
        try:
            count = connection.receive_into(view[done:])
        except TimeoutError:
            raise ConnectionError("nothing was heard for too long") from None
        if not count:
            if may_end and not done:
                return False
            raise ConnectionError("the other side ended the connection")
        heard()
        done += count
    return True


def skip(connection: Connection, size: int, heard: Callable[[], None]) -> None:
    """Read ``size`` bytes that nobody wants. Raises as ``fill`` does."""
    room = memoryview(bytearray(min(size, SKIP_BYTES)))
    while size:
        part = room[: min(size, SKIP_BYTES)]
        fill(connection, part, heard)
        size -= len(part)
