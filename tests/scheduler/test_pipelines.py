"""Starts with decode groups joined: the same cards, in fewer groups, each able to hold the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import SPLIT
from thunderserve.scheduler.pipelines import pipelined
from thunderserve.scheduler.search import other_starts, start
from thunderserve.scheduler.solution import Cards, Solution
from thunderserve.scheduler.system import System
from thunderserve.spec.plan import Phase

FOUR = [((0, 2),), ((1, 2),), ((2, 4),), ((3, 3),)]


def cards(solution: Solution) -> Counter[int]:
    return sum((Counter(dict(group.cards)) for group in solution), Counter())


def decoding(solution: Solution) -> list[Cards]:
    return [group.cards for group in solution if group.phase is Phase.DECODE]


def test_the_smallest_are_joined_first() -> None:
    found = pipelined(FOUR, lambda group: -group[0][0], lambda _: True, len)
    decode = [decoding(one) for one in found]
    assert decode[:3] == [FOUR[1:2] + FOUR[2:3] + FOUR[3:], [((1, 2), (3, 3)), ((2, 4),)], [((1, 2), (2, 4), (3, 3))]]
    assert len(found) == len(set(found)) == 5 + 2 + 1


def test_any_two_are_joined_where_that_promises_most() -> None:
    wanted = [((1, 2), (2, 4)), ((3, 3),)]  # the smallest are those of kinds 1 and 3

    def promise(one: Solution) -> int:
        return abs(len(one) - 3) + (decoding(one) != wanted)

    found = pipelined(FOUR, lambda group: -group[0][0], lambda _: True, promise)
    assert wanted in [decoding(one) for one in found]
    # One prefill group: the other three alone, three ways to join two of them, all joined. Two: two ways. Three: one.
    assert len(found) == 5 + 2 + 1


def test_of_many_groups_the_smallest_are_joined_first() -> None:
    many = [((kind, 1 + kind % 4),) for kind in range(14)]
    asked: list[Solution] = []

    def able(one: Solution) -> bool:
        asked.append(one)
        return True

    found = pipelined(many, lambda group: -group[0][0], able, len)
    assert max(len(decoding(one)) for one in found) == 13
    assert len(asked) < 1000  # of 27 million partitions of thirteen groups
    assert len(found) == len(set(found))


def test_what_is_not_feasible_is_left_out() -> None:
    found = pipelined(FOUR, lambda group: -group[0][0], lambda one: all(group.size <= 5 for group in one), len)
    assert found
    assert max(group.size for one in found for group in one) == 5


def test_other_starts_use_every_card_and_can_run(cloud: Problem, cloud_lower: Lower) -> None:
    settings = System().settings(cloud)
    first = start(cloud_lower, SPLIT, "cluster", np.random.default_rng(0))
    others = other_starts(cloud_lower, settings, first)
    assert 0 < len(others) <= settings.starts
    assert first not in others
    assert all(cards(one) == cards(first) and cloud_lower.feasible(one) for one in others)
    assert [cloud_lower.promise(one) for one in others] == sorted(map(cloud_lower.promise, others))


def test_a_search_from_random_groups_has_no_other_start(cloud: Problem, cloud_lower: Lower) -> None:
    first = start(cloud_lower, SPLIT, "cluster", np.random.default_rng(0))
    for system in (System(init="random"), System(phase_split="off")):
        assert other_starts(cloud_lower, system.settings(cloud), first) == []
    assert other_starts(cloud_lower, replace(System().settings(cloud), starts=0), first) == []
