"""A replica between two steps: what waits, what runs, which blocks hold what. No torch, no clock, no network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thunderserve.engine.messages import Reason, Role, Submit, Token
from thunderserve.engine.replica.blocks import Blocks, names_of
from thunderserve.engine.replica.sequence import Sequence, sequence_of
from thunderserve.engine.replica.step import Step, pack
from thunderserve.serving.batcher import complete, schedule
from thunderserve.serving.blocks import blocks_for
from thunderserve.serving.leave import OUTBOX, leave, members, standing, unload
from thunderserve.serving.lists import push_back
from thunderserve.serving.pool import LEAVES, LEFT, NONE, STAYS, Limits, empty_pool, new_requests

AHEAD = 8
"""Waiting requests whose beginnings are looked up before a step: so many may be admitted at once and know it."""


class TooLongError(ValueError):
    """It can never be served, here or by another worker of this model."""


class FullError(RuntimeError):
    """It cannot be taken in now; another worker may."""


class Done(NamedTuple):
    """What a step gave."""

    tokens: tuple[Token, ...]
    leaving: tuple[Sequence, ...]
    """Their prefill is done here; ``handed`` frees them."""


class Replica:
    """Serves requests in batches.

    Args:
        role: how it forms them.
        blocks: of KV memory.
        block_tokens: tokens of one block.
        max_context: tokens of prompt and answer together, at most.
        most: requests at once.
        reuse: share equal beginnings.
    """

    def __init__(
        self, role: Role, *, blocks: int, block_tokens: int, max_context: int, most: int = 4096, reuse: bool = True
    ) -> None:
        self.block_tokens, self.max_context = block_tokens, max_context
        self.blocks = Blocks(blocks, reuse=reuse)
        self._reuse = reuse
        limits = Limits(True, 1, block_tokens, blocks, 0, role.max_sequences, role.max_batched_tokens)
        self.pool = empty_pool([limits], new_requests(most))
        self._most_sequences = int(self.pool.replicas[0]["max_sequences"])
        self._rows = list(range(most))[::-1]
        self._sequences: dict[int, Sequence] = {}
        self._by_row: dict[int, Sequence] = {}
        self._scratch = np.empty(most, np.int64)
        self._step: Step | None = None
        self._looked: list[int] = []
        self.prompt_tokens = self.output_tokens = self.reused_tokens = self.steps = self.preemptions = 0
        self.play(role)

    # what happens between steps

    def play(self, role: Role) -> None:
        """From now on form batches so. Nothing that it has is lost.

        Raises:
            ValueError: it was laid out for fewer sequences.
        """
        row = self.pool.replicas[0]
        wanted = min(role.max_sequences, role.max_batched_tokens)
        if wanted > self._most_sequences:
            raise ValueError(f"{wanted} sequences are wanted, but the replica was started for {self._most_sequences}")
        row["chunked"] = role.policy == "chunked"
        row["max_sequences"], row["max_batched_tokens"] = wanted, role.max_batched_tokens
        self.role = role

    def submit(self, submit: Submit, *, arrived: bool = False) -> Sequence:
        """Take a request in, to wait for its prefill; ``arrived``: its keys and values are on their way (see ``admit``).

        Raises:
            TooLongError: it does not fit into the context or the memory.
            FullError: there are too many.
            KeyError: its number is in use.
        """
        if submit.id in self._sequences:
            raise KeyError(f"request {submit.id} is here already")
        self._check(submit)
        sequence = sequence_of(submit, self._rows.pop())
        sequence.arrived = arrived
        self.pool.requests[sequence.row] = new_requests(1)[0]
        row = self.pool.requests[sequence.row]
        row["prompt_tokens"] = len(sequence.tokens)
        row["output_tokens"] = submit.sampling.max_tokens - sequence.emitted
        row["progress"] = 1 if arrived else 0  # the token that will be told with its keys and values
        row["moves"] = LEFT if arrived else LEAVES if submit.decode_at else STAYS
        self._sequences[submit.id] = self._by_row[sequence.row] = sequence
        replica = self.pool.replicas[0]
        replica["pending_requests"] += 1
        replica["pending_tokens"] += row["prompt_tokens"]
        if not arrived:
            push_back(replica["waiting"], self.pool.requests, sequence.row)
        return sequence

    def has(self, number: int) -> bool:
        """Whether the request is here."""
        return number in self._sequences

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """All requests that are here."""
        return tuple(self._sequences.values())

    def holds(self, sequence: Sequence) -> bool:
        """Whether this very sequence is here, and not a later one of the same number."""
        return self._sequences.get(sequence.id) is sequence

    def room(self, tokens: int) -> bool:
        """Whether the keys and values of ``tokens`` tokens may come now: preempted requests come first."""
        replica = self.pool.replicas[0]
        waiting = replica["waiting"]
        if waiting["count"] and self.pool.requests[waiting["head"]]["preemptions"] > 0:
            return False
        return bool(
            replica["resident"] < replica["max_sequences"]
            and blocks_for(tokens, self.block_tokens) + replica["watermark_blocks"] <= replica["free"]
        )

    def reserve(self, sequence: Sequence) -> None:
        """Hold blocks for keys and values that will come."""
        replica = self.pool.replicas[0]
        self._grow(sequence, len(sequence.tokens))
        replica["free"] -= len(sequence.table)
        replica["resident"] += 1

    def join(self, sequence: Sequence, token: int) -> None:
        """Its keys and values have come, and the ``token`` that followed: it decodes from the next step on."""
        sequence.cached = len(sequence.tokens)
        sequence.tokens.append(token)
        push_back(self.pool.replicas[0]["ready"], self.pool.requests, sequence.row)

    def unreserve(self, sequence: Sequence) -> None:
        """Its keys and values will not come."""
        row, replica = self.pool.requests[sequence.row], self.pool.replicas[0]
        if sequence.table:
            replica["free"] += len(sequence.table)
            replica["resident"] -= 1
        replica["pending_requests"] -= 1
        replica["pending_tokens"] -= row["prompt_tokens"]
        self._forget(sequence)

    def handed(self, sequence: Sequence) -> None:
        """Somebody else has its keys and values, or nobody wants them: its blocks are free."""
        unload(self.pool, 0, sequence.row)
        self._forget(sequence)

    def end(self, number: int, now_s: float = 0.0) -> Sequence | None:
        """Take a request out wherever it stands. One that is being handed over stays until ``handed``."""
        sequence = self._sequences.get(number)
        if sequence is None or sequence.leaving:
            return None
        place = standing(self.pool, 0, self.pool.lanes[0], sequence.row)
        if place in (NONE, OUTBOX):
            return None
        leave(self.pool, 0, self.pool.lanes[0], sequence.row, now_s)
        self._forget(sequence)
        return sequence

    # a step

    def schedule(self, now_s: float) -> Step | None:
        """Form the next batch and hold the blocks that it needs; none when there is nothing to do."""
        self._look_up()
        lane, waiting = self.pool.lanes[0], self.pool.replicas[0]["waiting"]
        steps = schedule(self.pool, 0, lane, now_s, 1)
        ahead = min(int(waiting["count"]), self._most_sequences)  # what was preempted just now waits before all others
        self._drop_preempted(self._listed(int(waiting["head"]), ahead))
        if steps == 0:
            return None
        decoding = self._listed(int(lane["head"]), int(lane["batch_decodes"]))
        prefill = self._listed(int(lane["chunk_head"]), int(lane["batch_chunks"]))
        self._drop_preempted(prefill)  # preempted and admitted again at once
        self._admit(prefill)
        parts = [(one, one.cached, len(one.tokens) - one.cached) for one in prefill]
        if parts:
            parts[-1] = (*parts[-1][:2], int(lane["batch_last"]))
        for sequence in decoding:
            self._grow(sequence, len(sequence.tokens))
        self._step = pack(decoding, parts, self.block_tokens)
        return self._step

    def complete(self, tokens: list[int], now_s: float) -> Done:
        """Take in what ``execute`` gave for the step of the last ``schedule``."""
        step = self._step
        if step is None:
            raise ValueError("no step was scheduled")
        self._step = None
        complete(self.pool, 0, self.pool.lanes[0], now_s)
        self.steps += 1
        for part in step.parts:
            part.sequence.cached = part.past + part.stop - part.start
            self.pool.requests[part.sequence.row]["cached_tokens"] = 0
            self.prompt_tokens += part.stop - part.start
            if part.ends:
                self._publish(part.sequence)
        for sequence in step.decoding:
            sequence.cached = len(sequence.tokens)
        said, leaving = [], []
        for sequence, token in zip(step.sampled, tokens, strict=True):
            said.append(self._say(sequence, token, now_s))
            if self.has(sequence.id) and self.pool.requests[sequence.row]["moves"] == LEFT and sequence.target:
                sequence.leaving = True
                leaving.append(sequence)
        self.output_tokens += len(said)
        return Done(tuple(said), tuple(leaving))

    def check(self) -> None:
        """Hold the books of batcher and blocks against each other. Raises AssertionError, in words."""
        tables = [sequence.table for sequence in self._sequences.values()]
        self.blocks.check(tables)
        held = sum(map(len, tables))
        counted = self.blocks.count - int(self.pool.replicas[0]["free"])
        if held != counted:
            raise AssertionError(f"the batcher counts {counted} blocks, the sequences hold {held}")
        if int(self.pool.replicas[0]["pending_requests"]) < 0 or len(self._rows) + len(self._sequences) != len(
            self.pool.requests
        ):
            raise AssertionError("requests were lost or counted twice")

    @property
    def waiting(self) -> int:
        """Requests that wait for their prefill."""
        return int(self.pool.replicas[0]["waiting"]["count"])

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return int(self.pool.lanes[0]["count"])

    def __len__(self) -> int:
        return len(self._sequences)

    # inside

    def _check(self, submit: Submit) -> None:
        given, more = len(submit.prompt) + len(submit.emitted), submit.sampling.max_tokens - len(submit.emitted)
        if given == 0 or more < 1:
            raise TooLongError(f"a request has a token and wants one more at least, not {given} and {more}")
        if given + more > self.max_context:
            raise TooLongError(f"{given} tokens and {more} more are over the context of {self.max_context}")
        here = given if submit.decode_at else given + more - 1
        if blocks_for(here, self.block_tokens) > self.blocks.count:
            raise TooLongError(f"{here} tokens do not fit into {self.blocks.count} blocks of {self.block_tokens}")
        if not self._rows:
            raise FullError(f"{len(self._sequences)} requests are here already, as many as there can be")

    def _look_up(self) -> None:
        """Tell the batcher how much of what waits is in memory already."""
        if not self._reuse:
            return
        waiting, requests = self.pool.replicas[0]["waiting"], self.pool.requests
        for row in self._looked:
            requests[row]["cached_tokens"] = 0
        self._looked = [one.row for one in self._listed(int(waiting["head"]), min(int(waiting["count"]), AHEAD))]
        for row in self._looked:
            sequence = self._by_row[row]
            whole = (len(sequence.tokens) - 1) // self.block_tokens  # one token at least is computed
            sequence.names = names_of(sequence.tokens, self.block_tokens, sequence.names)
            requests[row]["cached_tokens"] = self.blocks.known(sequence.names[:whole]) * self.block_tokens

    def _admit(self, prefill: list[Sequence]) -> None:
        """Give blocks to those that begin: first what they share, so that nobody is given it to write on."""
        new = [sequence for sequence in prefill if not sequence.table]
        for sequence in new:
            sequence.cached = int(self.pool.requests[sequence.row]["cached_tokens"])
            self.reused_tokens += sequence.cached
            sequence.table = self.blocks.share(sequence.names[: sequence.cached // self.block_tokens])
        for sequence in new:
            self._grow(sequence, len(sequence.tokens))

    def _grow(self, sequence: Sequence, tokens: int) -> None:
        if missing := blocks_for(tokens, self.block_tokens) - len(sequence.table):
            sequence.table += self.blocks.take(missing)

    def _drop_preempted(self, candidates: list[Sequence]) -> None:
        """Let go of the blocks of sequences that the batcher has just preempted."""
        for sequence in candidates:
            preemptions = int(self.pool.requests[sequence.row]["preemptions"])
            if preemptions > sequence.preemptions:
                self.preemptions += preemptions - sequence.preemptions
                sequence.preemptions = preemptions
                self._publish(sequence)
                self.blocks.release(sequence.table)
                sequence.table, sequence.cached = [], 0

    def _say(self, sequence: Sequence, token: int, now_s: float) -> Token:
        """Note a new token and find out whether it is the last."""
        row = self.pool.requests[sequence.row]
        place = sequence.emitted
        sequence.tokens.append(token)
        stops = token in sequence.sampling.stop_tokens
        whole = sequence.emitted >= sequence.sampling.max_tokens
        start_s = None if sequence.first_said or sequence.arrived else float(row["prefill_start_s"])
        sequence.first_said = True
        if whole:
            self._forget(sequence)  # the batcher has counted it out
        elif stops and sequence.target is not None and row["moves"] == LEFT:
            self.handed(sequence)
        elif stops:
            leave(self.pool, 0, self.pool.lanes[0], sequence.row, now_s)
            self._forget(sequence)
        reason: Reason | None = "stop" if stops else "length" if whole else None
        return Token(sequence.id, place, token, reason, start_s, sequence.preemptions)

    def _publish(self, sequence: Sequence) -> None:
        if self._reuse:
            sequence.names = names_of(sequence.tokens[: sequence.cached], self.block_tokens, sequence.names)
            self.blocks.publish(sequence.table, sequence.names[: sequence.cached // self.block_tokens])

    def _forget(self, sequence: Sequence) -> None:
        self._publish(sequence)
        self.blocks.release(sequence.table)
        del self._sequences[sequence.id], self._by_row[sequence.row]
        self._rows.append(sequence.row)

    def _listed(self, first: int, count: int) -> list[Sequence]:
        members(self.pool.requests, first, count, self._scratch)
        return [self._by_row[row] for row in self._scratch[:count].tolist()]
