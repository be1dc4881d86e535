"""The neighbours of a solution: flip, split, merge and move (the paper, second-hand), and a merge that is split anew at once.

Each move is a pure function of a solution and a random generator, and returns a canonical solution or None where it does
not apply. All of them keep the cards of the cluster together: nothing is lost, nothing used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, serves, together, without
from thunderserve.spec.plan import Phase

Rng = np.random.Generator
Move = Callable[[Solution, Rng], Solution | None]
Phases = tuple[Phase, ...]

SPLIT = (Phase.PREFILL, Phase.DECODE)
"""The paper's phases."""
ALL = (Phase.PREFILL, Phase.DECODE, Phase.BOTH)
WHOLE, HALVES = 0.5, 0.25
"""How often a mixed group is cut between its kinds, and how often into two alike halves, which free numbers rarely make."""
EVEN = 0.75
"""How often a number of cards to move is even."""


def flipped(solution: Solution, group: int, phase: Phase) -> Solution:
    """The same groups, one with another phase."""
    return replaced(solution, (group,), (Group(phase, solution[group].cards),))


def replaced(solution: Solution, old: tuple[int, ...], new: tuple[Group, ...]) -> Solution:
    """``new`` groups in the place of those at ``old``."""
    return canonical([group for place, group in enumerate(solution) if place not in old] + list(new))


def flip(phases: Phases) -> Move:
    """Give one group another phase."""

    def move(solution: Solution, rng: Rng) -> Solution | None:
        place = int(rng.integers(len(solution)))
        others = [phase for phase in phases if phase is not solution[place].phase]
        return flipped(solution, place, others[int(rng.integers(len(others)))]) if others else None

    return move


def split(phases: Phases) -> Move:
    """Cut one group in two; the first part keeps the phase."""

    def move(solution: Solution, rng: Rng) -> Solution | None:
        place = int(rng.integers(len(solution)))
        phase, cards = solution[place]
        if solution[place].size < 2:
            return None
        part = cut(cards, rng)
        other = phase if rng.random() < 0.5 else _any(phases, rng)
        return replaced(solution, (place,), (Group(phase, part), Group(other, without(cards, part))))

    return move


def merge(solution: Solution, rng: Rng) -> Solution | None:
    """Make one group of two, in the phase of one of them."""
    if len(solution) < 2:
        return None
    a, b = (int(place) for place in rng.choice(len(solution), 2, replace=False))
    whole = Group(solution[a].phase, together(solution[a].cards, solution[b].cards))
    return replaced(solution, (a, b), (whole,))


def move_cards(solution: Solution, rng: Rng) -> Solution | None:
    """Move some equal cards from one group to another."""
    if len(solution) < 2:
        return None
    a, b = (int(place) for place in rng.choice(len(solution), 2, replace=False))
    kind, count = solution[a].cards[int(rng.integers(len(solution[a].cards)))]
    moved = ((kind, amount(count, rng)),)
    if moved[0][1] in (0, solution[a].size):
        return None
    giver = Group(solution[a].phase, without(solution[a].cards, moved))
    return replaced(solution, (a, b), (giver, Group(solution[b].phase, together(solution[b].cards, moved))))


def regroup(phases: Phases) -> Move:
    """Merge two groups and cut the result elsewhere: what a merge and a split in a row would do."""

    def move(solution: Solution, rng: Rng) -> Solution | None:
        if len(solution) < 2:
            return None
        a, b = (int(place) for place in rng.choice(len(solution), 2, replace=False))
        cards = together(solution[a].cards, solution[b].cards)
        part = cut(cards, rng)
        return replaced(
            solution, (a, b), (Group(_any(phases, rng), part), Group(_any(phases, rng), without(cards, part)))
        )

    return move


def cut(cards: Cards, rng: Rng) -> Cards:
    """A part of the cards, neither empty nor all: whole kinds (half the time), half of every kind, or any number of each."""
    while True:
        way = rng.random() if len(cards) > 1 else 1.0
        if way < WHOLE:
            part = tuple(item for item in cards if rng.random() < 0.5)
        elif way < WHOLE + HALVES:
            drawn = [(kind, (count + int(rng.integers(2))) // 2) for kind, count in cards]
            part = tuple((kind, count) for kind, count in drawn if count > 0)
        else:
            drawn = [(kind, amount(count, rng)) for kind, count in cards]
            part = tuple((kind, count) for kind, count in drawn if count > 0)
        if part and part != cards:
            return part


def amount(count: int, rng: Rng) -> int:
    """A number from 0 to ``count``; three times in four an even one, for odd ones leave a card without a partner for TP."""
    if count > 1 and rng.random() < EVEN:
        return 2 * int(rng.integers(0, count // 2 + 1))
    return int(rng.integers(0, count + 1))


def _any(phases: Phases, rng: Rng) -> Phase:
    return phases[int(rng.integers(len(phases)))]


def moves_for(phases: Phases) -> dict[str, Move]:
    """All moves, by name."""
    named: dict[str, Move] = {
        "split": split(phases),
        "merge": merge,
        "move": move_cards,
        "regroup": regroup(phases),
    }
    return {"flip": flip(phases)} | named if len(phases) > 1 else named


def sampler(
    moves: Sequence[Move], feasible: Callable[[Solution], bool], attempts: int = 8
) -> Callable[[Solution, int, Rng], list[Solution]]:
    """Draws different neighbours that are ``feasible``, at most ``attempts`` tries each."""

    def neighbours(solution: Solution, count: int, rng: Rng) -> list[Solution]:
        found: dict[Solution, None] = {}
        for candidate in _drawn(solution, moves, attempts * count, rng):
            if candidate != solution and candidate not in found and serves(candidate) and feasible(candidate):
                found[candidate] = None
                if len(found) == count:
                    break
        return list(found)

    return neighbours


def _drawn(solution: Solution, moves: Sequence[Move], attempts: int, rng: Rng) -> Iterator[Solution]:
    for _ in range(attempts):
        candidate = moves[int(rng.integers(len(moves)))](solution, rng)
        if candidate is not None:
            yield candidate
