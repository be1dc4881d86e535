"""Large clusters: cut into parts of well-connected nodes, planned one by one with a share of the rate, then joined.

The time of a search grows with the square of the groups (pairs, flows), so parts of a few dozen cards keep it linear in the
cluster. KV would rarely cross between parts anyway: they are cut where the bandwidth is least.
"""

from __future__ import annotations

from dataclasses import replace

from thunderserve.scheduler.estimate import Arc, Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.race import Race
from thunderserve.scheduler.solution import Cards, Solution, canonical
from thunderserve.scheduler.start import Capable, bandwidth_tree

PART_CARDS = 48
"""Cards of a part, at most (unless one node has more)."""


def parts_of(lower: Lower, most: int = PART_CARDS) -> list[Cards]:
    """Sets of whole kinds, each able to hold the model twice over, of at most ``most`` cards where that can be."""
    tree = bandwidth_tree(lower.inventory, tuple(enumerate(lower.inventory.counts)))
    found: list[Cards] = []
    stack = [tree.root]
    while stack:
        node = stack.pop()
        left, right = node.get_left(), node.get_right()
        if node.get_count() <= most or left is None or right is None:
            found.append(_whole(lower, tree.cards(node)))
        else:
            stack += [right, left]
    return _merged(_once(found), lambda cards: lower.capable(cards) and _twice(lower, cards))


def _whole(lower: Lower, cards: Cards) -> Cards:
    """The kinds of these cards, with all their cards."""
    return tuple((kind, lower.inventory.counts[kind]) for kind, _ in cards)


def _once(parts: list[Cards]) -> list[Cards]:
    """Every kind in the first part that has it."""
    seen: set[int] = set()
    kept = []
    for part in parts:
        rest = tuple(item for item in part if item[0] not in seen)
        seen |= {kind for kind, _ in rest}
        if rest:
            kept.append(rest)
    return kept


def _twice(lower: Lower, cards: Cards) -> bool:
    half = tuple((kind, count // 2) for kind, count in cards if count > 1)
    return bool(half) and lower.capable(half)


def _merged(parts: list[Cards], able: Capable) -> list[Cards]:
    """Parts that are not able join the one before them (their neighbour in the tree)."""
    kept: list[Cards] = []
    for part in parts:
        if kept and not (able(part) and able(kept[-1])):
            kept[-1] = tuple(sorted(kept[-1] + part))
        else:
            kept.append(part)
    return kept


def at_share(lower: Lower, share: float) -> Lower:
    """The same lower level for a share of the requests: the same lengths, arrivals farther apart."""
    short, long = lower.race.short.at(share), lower.race.long
    race = Race(short, None if long is None else long.at(share))
    return Lower(replace(lower.estimator, sample=short.sample), race, lower.keep)


def joined(estimates: list[tuple[Estimate, float]]) -> Estimate:
    """One estimate of the whole from those of its parts and their shares."""
    groups = [
        (group, number, place) for number, (one, _) in enumerate(estimates) for place, group in enumerate(one.solution)
    ]
    ranked = sorted(groups, key=lambda item: item[0])
    place_of = {(number, place): rank for rank, (_, number, place) in enumerate(ranked)}
    solution: Solution = canonical(group for group, _, _ in groups)
    configurations = tuple(estimates[number][0].configurations[place] for _, number, place in ranked)
    arcs = tuple(
        Arc(place_of[number, arc.prefill], place_of[number, arc.decode], arc.passage, arc.share * share, arc.attainment)
        for number, (one, share) in enumerate(estimates)
        for arc in one.arcs
    )
    attainment = sum(one.attainment * share for one, share in estimates)
    # The whole is full when its first part is.
    capacity = min(one.capacity_per_s / share for one, share in estimates)
    return Estimate(solution, configurations, arcs, attainment, capacity)


def shares(capacities: list[float]) -> list[float]:
    """In proportion to what each part can carry."""
    total = sum(capacities)
    return [capacity / total for capacity in capacities]
