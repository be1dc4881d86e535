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
from thunderserve.scheduler.solution import Solution
from thunderserve.scheduler.system import System
from thunderserve.spec.plan import Phase

FOUR = [((0, 2),), ((1, 2),), ((2, 4),), ((3, 3),)]


def cards(solution: Solution) -> Counter[int]:
    return sum((Counter(dict(group.cards)) for group in solution), Counter())


def test_the_smallest_are_joined_first() -> None:
    found = pipelined(FOUR, lambda group: -group[0][0], lambda _: True)
    decode = [[group.cards for group in one if group.phase is Phase.DECODE] for one in found]
    assert decode[:3] == [FOUR[1:2] + FOUR[2:3] + FOUR[3:], [((1, 2), (3, 3)), ((2, 4),)], [((1, 2), (2, 4), (3, 3))]]
    assert len(found) == len(set(found)) == 3 + 2 + 1


def test_what_is_not_feasible_is_left_out() -> None:
    found = pipelined(FOUR, lambda group: -group[0][0], lambda one: all(group.size <= 5 for group in one))
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
