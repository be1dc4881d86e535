"""The other end of the transfer bench, a process of its own: a receiver that takes everything, and a plain socket beside it."""

from __future__ import annotations

import socket
import struct
import threading
from multiprocessing.connection import Connection

LENGTH = struct.Struct("<Q")
PIECE_BYTES = 1 << 22


def serve(pipe: Connection) -> None:
    """Say both addresses through ``pipe``, then receive until it is written to."""
    from thunderserve.engine.transfer.events import Completed, Offered
    from thunderserve.engine.transfer.receiver import Receiver

    receiver = Receiver()
    sink = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_drain, args=(sink,), daemon=True).start()
    pipe.send((receiver.address, sink.getsockname()[:2]))
    while not pipe.poll():
        event = receiver.events.get(0.05)
        if isinstance(event, Offered):
            receiver.grant(event.id)
        elif isinstance(event, Completed):
            receiver.confirm(event.id)
    receiver.close()
    sink.close()


def _drain(sink: socket.socket) -> None:
    """Read what is announced, and answer with one byte."""
    room = memoryview(bytearray(PIECE_BYTES))
    near, _ = sink.accept()
    with near:
        while head := near.recv(LENGTH.size, socket.MSG_WAITALL):
            left = LENGTH.unpack(head)[0]
            while left:
                left -= near.recv_into(room[: min(left, PIECE_BYTES)])
            near.sendall(b"!")
