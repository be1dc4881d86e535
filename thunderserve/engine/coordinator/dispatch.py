"""Gives requests to workers, hears what becomes of them, and gives them to others when that is needed.

Nothing here waits: a word of a worker, a timer or a client leads to the next state of a request at once, so that an answer goes
on in another worker even while its client is slow to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import isnan
from typing import NamedTuple

from thunderserve.engine.coordinator.attempt import Attempt, Said
from thunderserve.engine.coordinator.history import History
from thunderserve.engine.coordinator.peer import Peer
from thunderserve.engine.coordinator.request import Request
from thunderserve.engine.coordinator.routing import Routing
from thunderserve.engine.coordinator.settings import Settings
from thunderserve.engine.front.contract import TooLong, Unavailable
from thunderserve.engine.messages import Beat, Cancel, Emitted, Failed, Handed, Message, Submit, Target
from thunderserve.spec.plan import Flow

log = logging.getLogger(__name__)


class Way(NamedTuple):
    """What keys and values travel over. Zeros: the network as it is."""

    bytes_per_s: float = 0.0
    latency_s: float = 0.0


class Dispatch:
    """All requests and all workers.

    Args:
        routing: chooses.
        history: is told what happened.
        settings: how patient it is.
        way: from a prefill replica to a decode replica.
    """

    def __init__(self, routing: Routing, history: History, settings: Settings, way: Callable[[int, int], Way]) -> None:
        self._routing, self._history, self._settings, self._way = routing, history, settings, way
        self._shut = False
        self.peers: dict[int, Peer] = {}
        """By replica, those that are there."""
        self.requests: dict[int, Request] = {}
        """By id, until their clients have gone."""
        self.waiting: dict[int, Request] = {}
        """Those for which there is no worker now, in the order of their coming."""

    # clients

    def begin(self, request: Request) -> None:
        """Serve it: tokens, or an exception at the end, come to its outbox."""
        self.requests[request.id] = request
        if self._shut:
            self._end(request, Unavailable("the engine is being shut down"))
        else:
            self._try(request)

    def leave(self, request: Request) -> None:
        """Its client wants no more of it."""
        self.requests.pop(request.id, None)
        self._settle(request)

    def house_waiting(self) -> None:
        """Something has changed: look again for whom there was no worker."""
        for request in list(self.waiting.values()):
            self._try(request)

    def shut(self) -> None:
        """End everything, and take nothing more."""
        self._shut = True
        for request in list(self.requests.values()):
            if not request.ended:
                self._end(request, Unavailable("the engine is being shut down"))

    # workers

    def joined(self, peer: Peer) -> None:
        """A worker has said hello."""
        if (earlier := self.peers.get(peer.replica)) is not None:
            self.left(earlier, "another has come in its place")
        hello, role = peer.hello, self._routing.roles[peer.replica]
        log.info("replica %d: pid %d is ready after %.1f s", peer.replica, hello.pid, hello.load_s)
        self.peers[peer.replica] = peer
        self._routing.join(hello)
        if role != self._routing.started[peer.replica]:
            peer.say(role)
        self.house_waiting()

    def left(self, peer: Peer, reason: str) -> None:
        """A worker has gone, or is taken for dead: what it had goes to others. Said twice, it is nothing."""
        if self.peers.get(peer.replica) is not peer:
            return
        del self.peers[peer.replica]
        peer.hang_up()
        self._routing.leave(peer.replica)
        lost = [attempt for attempt in peer.attempts.values() if attempt.needs(peer)]
        peer.attempts.clear()
        if not self._shut:
            log.warning("replica %d is gone: %s; %d requests begin again", peer.replica, reason, len(lost))
        for attempt in lost:
            request = attempt.request
            request.losses += 1
            self._drop(attempt)
            if request.losses >= self._settings.losses:
                self._end(request, Unavailable(f"{request.losses} workers died over it, the last: {reason}"))
            else:
                self._try(request)

    def heard(self, peer: Peer, message: Message) -> None:
        """A worker has said something. Raises ValueError for what no worker says."""
        peer.silent_looks = 0
        if isinstance(message, Beat):
            peer.heard(message)
            if peer.alive:
                self._routing.beat(peer.replica, message)
        elif isinstance(message, Emitted):
            for token in message.tokens:
                if (attempt := peer.attempts.get(token.id)) is not None:
                    self._said(peer, attempt, Said(token, message.at_s))
                else:  # of an attempt that was given up, and that came to it afterwards
                    peer.say(Cancel(token.id))
        elif isinstance(message, Handed):
            if (attempt := peer.attempts.get(message.id)) is not None:
                self._handed(peer, attempt, message)
        elif isinstance(message, Failed):
            if (attempt := peer.attempts.get(message.id)) is not None:
                self._failed(peer, attempt, message.reason, again=message.again)
        else:
            raise ValueError(f"a worker does not say {type(message).__name__}")

    # what becomes of a request

    def _try(self, request: Request) -> None:
        """Give it to workers, or let it wait for some."""
        flow = self._routing.choose(request.need, request.avoid)
        if flow is not None:
            self.waiting.pop(request.id, None)
            request.stop_timer()
            self._submit(request, flow)
        elif not self._routing.possible(request.need):
            kind = Unavailable if request.told else TooLong
            self._end(request, kind(f"{sum(request.need)} tokens fit into no worker"))
        elif request.id not in self.waiting:
            self.waiting[request.id] = request
            patience_s = self._settings.patience_s
            gave_up = Unavailable(f"no worker for it has come within {patience_s:g} s")
            request.timer = asyncio.get_running_loop().call_later(patience_s, self._end, request, gave_up)

    def _submit(self, request: Request, flow: Flow) -> None:
        need, record = request.need, request.record
        prefill = self.peers[flow.prefill]
        alone = flow.prefill == flow.decode or need.output_tokens == 1
        decode = None if alone else self.peers[flow.decode]
        attempt = Attempt(
            (request.id << 8) + record.attempts,
            request,
            flow,
            need,
            len(request.told),
            prefill,
            decode,
            record.preemptions,
        )
        self._history.reruns += record.attempts > 0
        record.attempts += 1
        record.prefill_replica, record.decode_replica = flow.prefill, flow.decode
        request.attempt = attempt
        for peer in attempt.peers:
            peer.attempts[attempt.id] = attempt
            self._routing.give(peer.replica, need)
        target = None if decode is None else self._target(flow, decode)
        prefill.say(Submit(attempt.id, request.prompt, request.sampling, tuple(request.told), target))

    def _target(self, flow: Flow, decode: Peer) -> Target:
        way = self._way(flow.prefill, flow.decode)
        address = decode.hello.host, decode.hello.port
        return Target(flow.decode, *address, flow.codec.name, flow.codec.group_size, *way)

    def _said(self, peer: Peer, attempt: Attempt, said: Said) -> None:
        request, record = attempt.request, attempt.request.record
        if request.ended:
            return
        attempt.handed |= peer is attempt.decode
        attempt.preempted[peer.replica] = said.token.preemptions
        record.preemptions = attempt.preempted_before + sum(attempt.preempted.values())
        if said.token.prefill_start_s is not None and isnan(record.first_token_s):
            record.prefill_start_s = said.token.prefill_start_s
        try:
            ready = attempt.ready(said)
        except ValueError as error:
            self._failed(peer, attempt, str(error), again=True)
            return
        for one in ready:
            self._tell(request, one)

    def _tell(self, request: Request, said: Said) -> None:
        record = request.record
        request.told.append(said.token.token)
        request.outbox.put_nowait(said.token._replace(id=request.id))
        self._history.told_tokens += 1
        record.output_tokens = len(request.told)
        if isnan(record.first_token_s):
            record.first_token_s = said.at_s
        if said.token.reason is not None:
            record.finish_s = said.at_s
            request.ended = True
            self._finished(request)

    def _finished(self, request: Request) -> None:
        """All workers are done with it, but for one that may have to say yet when it handed it over."""
        attempt, request.attempt = request.attempt, None
        if attempt is not None:
            for peer in attempt.peers:
                if peer is attempt.decode or not attempt.handed:
                    self._release(peer, attempt)

    def _handed(self, peer: Peer, attempt: Attempt, message: Handed) -> None:
        attempt.handed = True
        if not (attempt.begun or attempt.request.ended):
            self._failed(peer, attempt, "it handed over before it said a token", again=True)
            return
        record = attempt.request.record
        record.transfer_start_s, record.transfer_end_s = message.start_s, message.end_s
        self._release(peer, attempt)

    def _failed(self, peer: Peer, attempt: Attempt, reason: str, *, again: bool) -> None:
        request = attempt.request
        self._release(peer, attempt)
        if not attempt.needs(peer):
            return  # a transfer of which both ends were told otherwise: the decode worker has it
        log.warning("request %d: replica %d: %s", request.id, peer.replica, reason)
        peer.say(Cancel(attempt.id))
        self._drop(attempt)
        request.failures += 1
        request.avoid.add(attempt.flow)
        if not again:
            self._end(request, TooLong(reason))
        elif request.failures >= self._settings.failures:
            self._end(request, Unavailable(f"{request.failures} attempts failed, the last: {reason}"))
        else:
            wait_s = self._settings.again_s * 2 ** (request.failures - 1)
            request.timer = asyncio.get_running_loop().call_later(wait_s, self._try, request)

    def _end(self, request: Request, error: Exception) -> None:
        """It will not be finished."""
        self._settle(request)
        request.outbox.put_nowait(error)

    def _settle(self, request: Request) -> None:
        """Nobody is to work or wait for it any more."""
        self.waiting.pop(request.id, None)
        request.stop_timer()
        request.ended = True
        if request.attempt is not None:
            self._drop(request.attempt)

    def _drop(self, attempt: Attempt) -> None:
        """Give an attempt up at everybody who was asked."""
        attempt.request.attempt = None
        for peer in attempt.peers:
            if self._release(peer, attempt):
                peer.say(Cancel(attempt.id))

    def _release(self, peer: Peer, attempt: Attempt) -> bool:
        """An attempt has ended at a worker; false if it had before."""
        if peer.attempts.pop(attempt.id, None) is None:
            return False
        if self.peers.get(peer.replica) is peer:
            self._routing.take(peer.replica, attempt.need)
        return True
