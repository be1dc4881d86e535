"""Keys and values that leave: layer by layer while the prefill runs on, or all at its end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from thunderserve.engine.messages import Submit, Target, encode
from thunderserve.engine.replica.memory import KvMemory
from thunderserve.engine.replica.sequence import Sequence
from thunderserve.engine.replica.step import Part, Step
from thunderserve.engine.transfer.events import Confirmed
from thunderserve.engine.transfer.link import Link
from thunderserve.engine.transfer.outgoing import Outgoing
from thunderserve.engine.transfer.sender import Sender
from thunderserve.spec.kv import CODECS, KvCodec


class Ended(NamedTuple):
    """A transfer is over. ``reason`` is empty when the decode worker has everything."""

    sequence: Sequence
    reason: str
    bytes: int = 0
    start_s: float = 0.0
    end_s: float = 0.0


class Departure:
    """One sequence on its way."""

    def __init__(self, sequence: Sequence, outgoing: Outgoing) -> None:
        self.sequence, self.outgoing = sequence, outgoing
        self.given = 0
        """Tokens of which every layer has been given."""


class Departures:
    """All transfers that leave this worker.

    Args:
        replica: number of this worker's replica, which makes the numbers of its transfers its own.
        layers: of the model.
        memory: where they lie.
        wire_dtype: what keys and values are cast to.
        wake: called when something has happened.
        late: nothing leaves before its prefill is done.
    """

    def __init__(
        self,
        replica: int,
        layers: int,
        memory: KvMemory,
        wire_dtype: torch.dtype,
        wake: Callable[[], None],
        *,
        late: bool = False,
    ) -> None:
        self._layers, self._memory, self._wire_dtype, self._late = layers, memory, wire_dtype, late
        self._sender = Sender(wake=wake)
        self._numbers = itertools.count(replica << 40)
        self._by_number: dict[int, Departure] = {}
        self._by_request: dict[int, Departure] = {}
        self.sent_bytes = 0

    def begin(self, step: Step) -> None:
        """Offer what this step begins to compute and somebody else will decode."""
        for part in () if self._late else step.parts:
            sequence = part.sequence
            if sequence.target is not None and self._of(sequence) is None:
                self._offer(sequence, sequence.target, len(sequence.tokens))

    def watcher(self, step: Step) -> Callable[[int, Tensor, Tensor], None] | None:
        """What is to be called after each layer of this step; none if nothing leaves."""
        leaving = [
            (part, self._by_request[part.sequence.id])
            for part in (() if self._late else step.parts)
            if part.sequence.target is not None
        ]
        if not leaving:
            return None

        def seen(layer: int, k: Tensor, v: Tensor) -> None:
            for part, departure in leaving:
                self._give(layer, part, departure, k, v)

        return seen

    def computed(self, step: Step) -> None:
        """All layers of this step were seen."""
        for part in step.parts:
            if departure := self._of(part.sequence):
                departure.given = max(departure.given, part.past + part.stop - part.start)

    def close(self, sequence: Sequence, token: int) -> None:
        """The prefill is done: ``token``, the last of the sequence, follows."""
        if self._late and sequence.target is not None:
            tokens = len(sequence.tokens) - 1
            self._offer(sequence, sequence.target, tokens)
            for layer in range(self._layers):
                self._give_past(layer, self._by_request[sequence.id], tokens)
        self._by_request[sequence.id].outgoing.close(json.dumps(token).encode())

    def drop(self, number: int, reason: str) -> None:
        """Nobody wants request ``number`` any more, or it has ended. If it is on its way, an ``Ended`` follows."""
        if (departure := self._by_request.get(number)) is not None:
            departure.outgoing.abort(reason)

    def poll(self) -> list[Ended]:
        """Transfers that are over."""
        found = []
        for event in self._sender.events.poll():
            departure = self._by_number.pop(event.id)
            if self._of(departure.sequence) is departure:
                del self._by_request[departure.sequence.id]
            if isinstance(event, Confirmed):
                self.sent_bytes += event.bytes
                found.append(Ended(departure.sequence, "", event.bytes, event.start_s, event.end_s))
            else:
                found.append(Ended(departure.sequence, getattr(event, "reason", "") or "it failed"))
        return found

    def stop(self) -> None:
        """End all threads."""
        self._sender.close()

    def _of(self, sequence: Sequence) -> Departure | None:
        """Its departure, and not that of an earlier attempt of the same request."""
        departure = self._by_request.get(sequence.id)
        return departure if departure is not None and departure.sequence is sequence else None

    def _offer(self, sequence: Sequence, target: Target, tokens: int) -> None:
        number = next(self._numbers)
        outgoing = self._sender.start(
            number, (target.host, target.port), layers=self._layers, tokens=tokens,
            codec=codec_of(target), link=Link(target.bytes_per_s or None, target.latency_s),
            note=encode(_note(sequence, tokens)),
        )  # fmt: skip
        self._by_number[number] = self._by_request[sequence.id] = Departure(sequence, outgoing)

    def _give_past(self, layer: int, departure: Departure, past: int) -> None:
        """Of the first ``past`` tokens what the receiver has not been given, out of memory."""
        k, v = self._memory.read(layer, departure.sequence.table, past)
        departure.outgoing.put(
            layer, departure.given, self._cast(k[departure.given :]), self._cast(v[departure.given :])
        )

    def _give(self, layer: int, part: Part, departure: Departure, k: Tensor, v: Tensor) -> None:
        """What the receiver has not been given: after a preemption, or with a shared beginning, that is not what is new."""
        given = departure.given
        if given < part.past:
            self._give_past(layer, departure, part.past)
            given = part.past
        start, stop = part.start + given - part.past, part.stop
        if start < stop:
            departure.outgoing.put(layer, given, self._cast(k[start:stop]), self._cast(v[start:stop]))

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self._wire_dtype)


def codec_of(target: Target) -> KvCodec | str:
    """The codec of a flow, with its group size where the plan has one."""
    if not target.group_size:
        return target.codec
    return CODECS[target.codec].model_copy(update={"group_size": target.group_size})


def _note(sequence: Sequence, tokens: int) -> Submit:
    """What the decode worker needs to know: the request as it stands after ``tokens`` tokens, before the next."""
    prompt, emitted = sequence.tokens[: sequence.prompt], sequence.tokens[sequence.prompt : tokens]
    return Submit(sequence.id, tuple(prompt), sequence.sampling, tuple(emitted))
