"""All neighbours of a solution: what is among them, and what never is."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.scheduler.around import around
from thunderserve.scheduler.moves import ALL, SPLIT, flipped
from thunderserve.scheduler.solution import Group, Solution, canonical, cards_of, serves
from thunderserve.spec.plan import Phase

EVERY = 10**9


@st.composite
def solutions(draw: st.DrawFn) -> Solution:
    """Up to five groups of up to three kinds."""
    groups = draw(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any), min_size=2, max_size=5))
    phases = draw(st.lists(st.sampled_from(SPLIT), min_size=len(groups), max_size=len(groups)))
    return canonical(
        Group(phase, cards_of(Counter(dict(enumerate(counts))))) for phase, counts in zip(phases, groups, strict=True)
    )


def cards(solution: Solution) -> Counter[int]:
    return sum((Counter(dict(group.cards)) for group in solution), Counter())


def neighbours(solution: Solution, most: int = EVERY) -> list[Solution]:
    return around(solution, SPLIT, most, np.random.default_rng(0))


@given(solutions())
def test_each_is_another_solution_of_the_same_cards(solution: Solution) -> None:
    found = neighbours(solution)
    assert len(found) == len(set(found))
    for one in found:
        assert one != solution
        assert one == canonical(one)
        assert cards(one) == cards(solution)
        assert serves(one)
        assert abs(len(one) - len(solution)) <= 1


@given(solutions())
def test_flips_merges_and_exchanges_of_pairs_are_among_them(solution: Solution) -> None:
    found = set(neighbours(solution))
    expected = [flipped(solution, place, phase) for place, phase in product(range(len(solution)), SPLIT)]
    for a, b in product(range(len(solution)), repeat=2):
        others = [group for place, group in enumerate(solution) if place not in (a, b)]
        if a != b:
            expected += [canonical([*others, Group(p, cards_of(cards((solution[a], solution[b]))))]) for p in SPLIT]
            expected += _given(solution[a], solution[b], others)
    assert {one for one in expected if one != solution and serves(one)} <= found


def _given(giver: Group, taker: Group, others: list[Group]) -> list[Solution]:
    """Whole kinds given away, where the taker has none of them."""
    found = []
    for kind, count in giver.cards:
        if kind not in dict(taker.cards) and len(giver.cards) > 1:
            left = tuple(item for item in giver.cards if item[0] != kind)
            found.append(
                canonical(
                    [
                        *others,
                        Group(giver.phase, left),
                        Group(taker.phase, tuple(sorted((*taker.cards, (kind, count))))),
                    ]
                )
            )
    return found


def test_by_hand() -> None:
    """Four equal cards as two pairs: cut 0 + 4 (a merge) leaves one phase, so only 2 + 2 is left, with the phases swapped."""
    prefill, decode = Group(Phase.PREFILL, ((0, 2),)), Group(Phase.DECODE, ((0, 2),))
    assert neighbours(canonical([prefill, decode])) == []
    colocated = around(canonical([prefill, decode]), ALL, EVERY, np.random.default_rng(0))
    assert (Group(Phase.BOTH, ((0, 4),)),) in colocated
    # The prefill group of six is cut 2 + 4, put together with the other and cut 2 + 6 or 4 + 4.
    six = Group(Phase.PREFILL, ((0, 6),))
    found = neighbours(canonical([six, decode]))
    sizes = {tuple(sorted((group.phase.value, group.size) for group in one)) for one in found}
    assert sizes == {
        (("decode", 6), ("prefill", 2)), (("decode", 4), ("prefill", 4)),
        (("decode", 2), ("prefill", 2), ("prefill", 4)), (("decode", 2), ("decode", 2), ("prefill", 4)),
        (("decode", 2), ("decode", 4), ("prefill", 2)),
        }  # fmt: skip


def test_of_too_many_as_many_as_are_wanted_are_drawn() -> None:
    solution = canonical(Group(SPLIT[place % 2], ((place, 4), (9, 2))) for place in range(6))
    every, some = neighbours(solution), neighbours(solution, 20)
    assert len(every) > 200
    assert len(some) == 20
    assert some == neighbours(solution, 20)
    assert set(some) < set(every)
