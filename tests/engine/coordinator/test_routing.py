"""The choice of a flow, against the plainest way to say what it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.engine.coordinator.routing import ROUTERS, Need, Routing
from thunderserve.engine.messages import Beat, Hello, Role
from thunderserve.spec.plan import Flow, Router

PREFILLS, DECODES = (0, 1), (2, 3, 4)
ROLES = [Role("prefill", "saturation", 8, 512)] * 2 + [Role("decode", "continuous", 8, 512)] * 3
PAIRS = [(p, d) for p in PREFILLS for d in DECODES]


def routing(router: Router, shares: Sequence[int], live: Sequence[bool], blocks: Sequence[int]) -> Routing:
    flows = [Flow(prefill=p, decode=d, share=share / 100) for (p, d), share in zip(PAIRS, shares, strict=True)]
    made = Routing(ROLES, flows, router)
    for replica, number in enumerate(blocks):
        made.join(Hello(1, replica, 1, "h", 1, number, 16, 2048, "cpu", 0.0))
    for replica, here in enumerate(live):
        if not here:
            made.leave(replica)
    return made


fives = st.lists(st.booleans(), min_size=5, max_size=5)
shares = st.lists(st.integers(0, 16), min_size=6, max_size=6).filter(any)


@given(shares, fives, st.integers(1, 60))
def test_shares_are_kept_within_one_request_among_those_that_are_there(
    shares: list[int], live: list[bool], count: int
) -> None:
    made = routing("flows", shares, live, [100] * 5)
    open_ = {pair: share for pair, share in zip(PAIRS, shares, strict=True) if live[pair[0]] and live[pair[1]]}
    if open_ and not any(open_.values()):
        open_ = dict.fromkeys(open_, 1)
    given_ = dict.fromkeys(PAIRS, 0)
    for _ in range(count):
        flow = made.choose(Need(10, 10))
        assert (flow is None) == (not open_)
        if flow is not None:
            given_[flow.prefill, flow.decode] += 1
    for pair, number in given_.items():
        due = count * open_[pair] / sum(open_.values()) if pair in open_ else 0.0
        # smooth weighted round robin among n flows is never further from the share than n - 1 requests, and mostly one
        assert abs(number - due) <= max(1, len(open_) - 1)
        assert number == 0 or open_[pair] > 0


@given(
    st.sampled_from([name for name in ROUTERS if name != "flows"]),
    fives,
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 300)), max_size=30),
)
def test_the_least_loaded_pair_is_chosen(router: Router, live: list[bool], load: list[tuple[int, int]]) -> None:
    made = routing(router, [10] * 6, live, [400] * 5)
    requests, tokens, blocks = [0] * 5, [0] * 5, [0] * 5
    for replica, prompt in load:
        made.give(replica, Need(prompt, 5))
        requests[replica] += 1
        tokens[replica] += prompt
        blocks[replica] += -(-prompt // 16)
    of = {"join_shortest_queue": requests, "fewest_tokens": tokens, "least_kv": blocks}[router]
    open_ = [(of[p], of[d], p, d) for p, d in PAIRS if live[p] and live[d]]
    flow = made.choose(Need(10, 10))
    assert (None if flow is None else (flow.prefill, flow.decode)) == (min(open_)[2:] if open_ else None)


@given(st.lists(st.integers(1, 40), min_size=5, max_size=5), st.integers(1, 600), st.integers(1, 200))
def test_only_pairs_that_can_hold_it_are_chosen_and_if_there_is_none_it_is_impossible(
    blocks: list[int], prompt: int, output: int
) -> None:
    made = routing("flows", [16] * 6, [True] * 5, blocks)
    whole = prompt + output - 1

    def able(pair: tuple[int, int]) -> bool:
        first, second = (16 * blocks[end] for end in pair)
        return whole <= first if output == 1 else prompt <= first and whole <= second

    fits = {pair for pair in PAIRS if able(pair)}
    assert made.possible(Need(prompt, output)) == bool(fits)
    flow = made.choose(Need(prompt, output))
    assert (flow is None) == (not fits)
    assert flow is None or (flow.prefill, flow.decode) in fits


def test_a_flow_that_failed_is_avoided_while_there_is_another() -> None:
    made = routing("flows", [90, 2, 2, 2, 2, 2], [True] * 5, [100] * 5)
    first = made.choose(Need(1, 1))
    assert first is not None
    for _ in range(20):
        assert made.choose(Need(1, 1), {first}) != first
    assert made.choose(Need(1, 1), set(made.flows)) in made.flows


def test_a_beat_corrects_what_was_guessed_of_the_blocks() -> None:
    made = routing("least_kv", [10] * 6, [True] * 5, [100] * 5)
    made.give(0, Need(160, 5))
    flow = made.choose(Need(1, 1))
    assert flow is not None
    assert flow.prefill == 1
    empty = dict.fromkeys(Beat._fields, 0)
    made.beat(0, Beat(**empty | {"blocks": 100, "blocks_used": 3}))
    made.beat(1, Beat(**empty | {"blocks": 100, "blocks_used": 5}))
    flow = made.choose(Need(1, 1))
    assert flow is not None
    assert flow.prefill == 0


def test_flows_that_cannot_be_are_refused_and_change_nothing() -> None:
    made = routing("flows", [10] * 6, [True] * 5, [100] * 5)
    before = made.flows
    for flows, words in (
        ([], "no flow has a share"),
        ([Flow(prefill=0, decode=2, share=0)], "no flow has a share"),
        ([Flow(prefill=0, decode=9, share=1)], "names replica 9 of 5"),
        ([Flow(prefill=0, decode=1, share=1)], r"replica 0 \(prefill\) cannot hand over to 1 \(prefill\)"),
        ([Flow(prefill=0, decode=0, share=1)], "cannot hand over to 0"),
    ):
        with pytest.raises(ValueError, match=words):
            made.reroute(flows)
    assert made.flows == before
