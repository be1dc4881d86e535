"""Keys and values that arrive: let in when there is room, written into the blocks that were kept for them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable

import numpy as np

from thunderserve.engine.messages import Submit, decode
from thunderserve.engine.replica.core import FullError, Replica
from thunderserve.engine.replica.memory import KvMemory
from thunderserve.engine.replica.sequence import Sequence
from thunderserve.engine.transfer.events import Arrived, Broken, Completed, Offered
from thunderserve.engine.transfer.receiver import Receiver


class Arrivals:
    """All transfers to this worker.

    Args:
        host: to listen on.
        replica: that will decode.
        memory: of its keys and values.
        layers: of the model.
        wake: called when something has happened.
    """

    def __init__(self, host: str, replica: Replica, memory: KvMemory, layers: int, wake: Callable[[], None]) -> None:
        self._replica, self._memory, self._layers = replica, memory, layers
        self._receiver = Receiver((host, 0), tensors=True, wake=wake)
        self.address = self._receiver.address
        self._coming: dict[int, Sequence] = {}
        self._waiting: deque[int] = deque()
        """Numbers of transfers that have no room yet, in the order of their offers."""
        self.received_bytes = 0

    def poll(self) -> None:
        """Take in what has come, and let in what there is room for."""
        for event in self._receiver.events.poll():
            if isinstance(event, Offered):
                self._offered(event)
            elif isinstance(event, Arrived):
                self._arrived(event)
            elif isinstance(event, Completed):
                self._completed(event)
            elif isinstance(event, Broken):
                self._lost(event.id)
        while self._waiting and self._replica.room(len(self._coming[self._waiting[0]].tokens)):
            number = self._waiting.popleft()
            self._replica.reserve(self._coming[number])
            self._receiver.grant(number)

    def cancel(self, request: int) -> None:
        """Nobody wants it any more."""
        for number in [number for number, one in self._coming.items() if one.id == request]:
            self._receiver.refuse(number, "cancelled")
            self._lost(number)

    def stop(self) -> None:
        """End all threads."""
        self._receiver.close()

    def _offered(self, event: Offered) -> None:
        try:
            submit = decode(event.note)
            if not isinstance(submit, Submit) or event.layers != self._layers:
                raise ValueError(f"an offer of {event.layers} layers; this model has {self._layers}")
            self.cancel(submit.id)  # an earlier attempt of the same request, of which the cancel may be on its way
            self._replica.end(submit.id)
            sequence = self._replica.submit(submit, arrived=True)
        except (FullError, KeyError, ValueError) as error:  # no message, too long: these are ValueErrors
            self._receiver.refuse(event.id, str(error))
            return
        self._coming[event.id] = sequence
        self._waiting.append(event.id)

    def _arrived(self, event: Arrived) -> None:
        sequence = self._coming.get(event.id)
        if sequence is None:
            return
        places = np.arange(event.first_token, event.first_token + len(event.k))
        size = self._memory.block_tokens
        slots = np.array(sequence.table)[places // size] * size + places % size
        self._memory.put(event.layer, slots, event.k, event.v)

    def _completed(self, event: Completed) -> None:
        sequence = self._coming.get(event.id)
        if sequence is None or not self._receiver.confirm(event.id):
            return  # what became of it has been, or will be, told otherwise
        del self._coming[event.id]
        self.received_bytes += event.bytes
        self._replica.join(sequence, int(json.loads(event.tail)))

    def _lost(self, number: int) -> None:
        sequence = self._coming.pop(number, None)
        if sequence is not None:
            if number in self._waiting:
                self._waiting.remove(number)
            self._replica.unreserve(sequence)
