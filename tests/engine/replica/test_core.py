"""The books of a replica under everything that can happen to it, without a model: tokens are made up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.engine.messages import Role, Sampling, Submit, Target
from thunderserve.engine.replica.core import FullError, Replica, TooLongError
from thunderserve.engine.replica.sequence import Sequence

CHUNKED = Role("both", "chunked", 6, 16)
WHOLE = Role("both", "prefill_first", 6, 16)
TARGET = Target(1, "127.0.0.1", 1)


def replica_of(role: Role = CHUNKED, blocks: int = 12) -> Replica:
    return Replica(role, blocks=blocks, block_tokens=4, max_context=64, most=16)


def turn(replica: Replica, end: bool = False) -> list[tuple[int, str | None]]:
    """One step; tokens are the sequence's length, or the end token 99."""
    step = replica.schedule(0.0)
    if step is None:
        return []
    done = replica.complete([99 if end else len(one.tokens) for one in step.sampled], 0.0)
    return [(token.id, token.reason) for token in done.tokens]


class Day:
    """All that can happen to a replica, in an order that hypothesis chooses."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.replica = replica_of(data.draw(st.sampled_from([CHUNKED, WHOLE])), data.draw(st.integers(11, 24)))
        self.number = 0
        self.leaving: list[Sequence] = []
        self.coming: list[Sequence] = []

    def submit(self, *, leaves: bool = False, arrives: bool = False) -> Sequence | None:
        if len(self.replica) >= 12:
            return None
        prompt = tuple(self.data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=20)))
        sampling = Sampling(self.data.draw(st.integers(2 if leaves or arrives else 1, 20)), stop_tokens=(99,))
        self.number += 1
        submit = Submit(self.number, prompt, sampling, decode_at=TARGET if leaves else None)
        return self.replica.submit(submit, arrived=arrives)

    def leave(self) -> None:
        self.submit(leaves=True)

    def arrive(self) -> None:
        sequence = self.submit(arrives=True)
        if sequence is None:
            return
        if self.replica.room(len(sequence.tokens)) and self.data.draw(st.booleans()):
            self.replica.reserve(sequence)
            self.coming.append(sequence)
        else:
            self.replica.unreserve(sequence)

    def step(self, token: int = 5) -> None:
        step = self.replica.schedule(0.0)
        if step is not None:
            self.leaving += self.replica.complete([token] * len(step.sampled), 0.0).leaving

    def step_to_the_end(self) -> None:
        self.step(99)

    def cancel(self) -> None:
        self.replica.end(self.data.draw(st.integers(0, self.number)))

    def hand(self) -> None:
        if self.leaving:
            self.replica.handed(self.leaving.pop())

    def join(self) -> None:
        if self.coming:
            self.replica.join(self.coming.pop(), 7)

    def lose(self) -> None:
        if self.coming:
            self.replica.unreserve(self.coming.pop())


HAPPENINGS = (
    Day.submit, Day.submit, Day.leave, Day.arrive, Day.step, Day.step, Day.step, Day.step_to_the_end, Day.cancel, Day.hand,
    Day.join, Day.lose,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_blocks_and_requests_are_never_lost(data: st.DataObject) -> None:
    day = Day(data)
    replica = day.replica
    for happening in data.draw(st.lists(st.sampled_from(HAPPENINGS), min_size=5, max_size=60)):
        happening(day)
        replica.check()
    while day.coming:
        day.lose()
    while len(replica):
        while day.leaving:
            day.hand()
        day.step()
        replica.check()
    assert replica.blocks.free == replica.blocks.count
    row = replica.pool.replicas[0]
    assert [row["free"], row["pending_requests"], row["pending_tokens"], row["resident"]] == [
        replica.blocks.count,
        0,
        0,
        0,
    ]


def test_a_handed_over_request_keeps_its_blocks_until_it_has_arrived() -> None:
    replica = replica_of()
    replica.submit(Submit(1, (1, 2, 3, 4, 5), Sampling(3), decode_at=TARGET))
    step = replica.schedule(0.0)
    assert step is not None
    done = replica.complete([8], 1.0)
    assert [(token.id, token.place, token.reason) for token in done.tokens] == [(1, 0, None)]
    assert done.tokens[0].prefill_start_s == 0.0
    assert replica.blocks.free == 10
    assert replica.end(1) is None  # it is being read
    replica.handed(done.leaving[0])
    assert (replica.blocks.free, len(replica)) == (12, 0)


def test_what_cannot_ever_fit_is_refused_in_words() -> None:
    replica = replica_of()
    with pytest.raises(TooLongError, match="65 more are over the context of 64"):
        replica.submit(Submit(1, (1, 2), Sampling(65)))
    with pytest.raises(TooLongError, match="49 tokens do not fit into 12 blocks of 4"):
        replica.submit(Submit(1, tuple(range(30)), Sampling(20)))
    replica.submit(Submit(1, tuple(range(30)), Sampling(20), decode_at=TARGET))  # only its prompt has to fit
    with pytest.raises(KeyError, match="request 1 is here"):
        replica.submit(Submit(1, (1,), Sampling(1)))


def test_a_full_replica_says_that_another_may_take_it() -> None:
    replica = replica_of(blocks=100)
    for number in range(16):
        replica.submit(Submit(number, (1,), Sampling(1)))
    with pytest.raises(FullError, match="16 requests are here"):
        replica.submit(Submit(16, (1,), Sampling(1)))


def test_a_shared_beginning_is_computed_once_and_evicted_only_when_blocks_run_out() -> None:
    replica = replica_of()
    for number in range(3):
        replica.submit(Submit(number, tuple(range(9)), Sampling(2)))
        while len(replica):
            turn(replica)
    assert (replica.prompt_tokens, replica.reused_tokens) == (9 + 1 + 1, 16)
    replica.submit(Submit(3, tuple(range(20, 60)), Sampling(8)))  # all twelve blocks
    while len(replica):
        turn(replica)
    replica.submit(Submit(4, tuple(range(9)), Sampling(2)))
    while len(replica):
        turn(replica)
    assert replica.reused_tokens == 16


def test_a_flip_keeps_what_is_there() -> None:
    replica = replica_of(WHOLE)
    replica.submit(Submit(1, (1, 2, 3), Sampling(4)))
    assert turn(replica) == [(1, None)]
    replica.play(CHUNKED)
    replica.submit(Submit(2, tuple(range(20)), Sampling(1)))
    assert turn(replica) == [(1, None)]  # 15 of its 20 tokens fit beside the decode
    assert turn(replica) == [(1, None), (2, "length")]
    with pytest.raises(ValueError, match="started for 6"):
        replica.play(CHUNKED._replace(max_sequences=7))
