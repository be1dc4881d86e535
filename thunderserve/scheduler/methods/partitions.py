"""The scheduler's solutions as a ``Space``: moves, estimates and scores of the core, and what other methods need besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from thunderserve.scheduler.around import looking_around
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.methods.space import Space
from thunderserve.scheduler.methods.traits import Traits
from thunderserve.scheduler.moves import Phases, moves_for, sampler
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, cards_of, serves, together
from thunderserve.scheduler.start import bandwidth_tree, shuffled
from thunderserve.scheduler.tabu import Rng

TIE = 1e-4
"""What capacity weighs in ``worth``: less than one request of a sample of 600 up to 16 times the rate."""
ATTEMPTS = 20


def space_of(lower: Lower, phases: Phases, first: Solution) -> Space[Solution, Score]:
    """The space of a problem. ``first`` is the stranger of last resort, where no random groups can hold the model."""
    neighbours = sampler(list(moves_for(phases).values()), lower.feasible)
    rate_per_s = lower.estimator.sample.rate_per_s
    order = leaves(lower, first)

    def runs(solution: Solution) -> bool:
        return serves(solution) and lower.feasible(solution) and lower.estimate(solution) is not None

    def fresh(rng: Rng) -> Solution:
        return stranger(lower, phases, runs, rng) or first

    def cross(mother: Solution, father: Solution, rng: Rng) -> Solution | None:
        child = crossed(mother, father, rng)
        return child if runs(child) else None

    def decode(code: Sequence[int]) -> Solution | None:
        solution = cut_along(order, code, lower.capable, phases)
        return solution if runs(solution) else None

    return Space(
        objective=lower.score,
        worth=lambda score: score.attainment + TIE * min(score.capacity_per_s / rate_per_s, 10.0),
        neighbours=neighbours,
        shortlist=lower.shortlist,
        around=looking_around(lower, phases),
        fresh=fresh,
        cross=cross,
        choices=(2,) * (len(order) - 1) + (len(phases),) * len(order),
        decode=decode,
        traits=Traits(lower),
    )


def leaves(lower: Lower, solution: Solution) -> list[int]:
    """The kinds of all cards in an order that keeps what is well connected together: the leaves of the bandwidth tree."""
    cards = together(*(group.cards for group in solution))
    if sum(count for _, count in cards) < 2:
        return [kind for kind, _ in cards]
    tree = bandwidth_tree(lower.inventory, cards)
    return [tree.kinds[int(leaf)] for leaf in tree.root.pre_order()]


def stranger(lower: Lower, phases: Phases, runs: Callable[[Solution], bool], rng: Rng) -> Solution | None:
    """A random solution that can run; None if a few attempts find none."""
    for _ in range(ATTEMPTS):
        try:
            found = shuffled(lower.inventory, lower.capable, tuple(enumerate(lower.inventory.counts)), phases, rng)
        except ValueError:
            return None
        if runs(found):
            return found
    return None


def crossed(mother: Solution, father: Solution, rng: Rng) -> Solution:
    """About half the mother's groups, those of the father's that fit beside them, and what is left joins one of these."""
    kept = [group for group in mother if rng.random() < 0.5]
    left = Counter(dict(together(*(group.cards for group in mother))))
    for group in kept:
        left.subtract(dict(group.cards))
    for place in rng.permutation(len(father)):
        group = father[int(place)]
        if all(left[kind] >= count for kind, count in group.cards):
            kept.append(group)
            left.subtract(dict(group.cards))
    rest = cards_of(left)
    if rest and kept:
        heir = int(rng.integers(len(kept)))
        kept[heir] = Group(kept[heir].phase, together(kept[heir].cards, rest))
    elif rest:
        return mother
    return canonical(kept)


def cut_along(order: Sequence[int], code: Sequence[int], capable: Callable[[Cards], bool], phases: Phases) -> Solution:
    """The groups of a code: for each card but the last whether a cut follows it, then the phase of a group by its first card.

    A cut before a group can hold the model is passed over; cards left at the end join the last group.
    """
    cuts, chosen = code[: len(order) - 1], code[len(order) - 1 :]
    groups: list[Group] = []
    first, held = 0, Counter[int]()
    for place, kind in enumerate(order):
        held[kind] += 1
        last = place == len(order) - 1
        if (last or cuts[place]) and capable(cards_of(held)):
            groups.append(Group(phases[chosen[first]], cards_of(held)))
            first, held = place + 1, Counter()
    if held and groups:
        groups[-1] = Group(groups[-1].phase, together(groups[-1].cards, cards_of(held)))
    return canonical(groups)
