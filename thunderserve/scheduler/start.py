"""Where the search starts: clusters of well-connected cards that can each hold the model (second-hand); or random groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thunderserve.scheduler.inventory import Inventory
from thunderserve.scheduler.moves import Phases
from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, cards_of, serves, together, without
from thunderserve.spec.plan import Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.cluster.hierarchy import ClusterNode

Capable = Callable[[Cards], bool]
"""Whether a group of these cards can hold the model."""
Rng = np.random.Generator


def bandwidth_matrix(inventory: Inventory, kinds: list[int]) -> NDArray[np.float64]:
    """(D, D) bytes a second between cards of these kinds (one entry a card), the slower of both directions.

    Infinite on the diagonal.
    """
    used = sorted(set(kinds))
    by_kind = np.array([[inventory.path(a, b).bytes_per_s for b in used] for a in used])
    places = np.searchsorted(used, kinds)
    matrix: NDArray[np.float64] = np.minimum(by_kind, by_kind.T)[np.ix_(places, places)]
    np.fill_diagonal(matrix, np.inf)
    return matrix


class Tree(NamedTuple):
    """A hierarchical clustering: its root, and the kind of the card at each leaf."""

    root: ClusterNode
    kinds: list[int]

    def cards(self, node: ClusterNode) -> Cards:
        """The cards below a node."""
        return cards_of(Counter(self.kinds[int(leaf)] for leaf in node.pre_order()))


def bandwidth_tree(inventory: Inventory, cards: Cards) -> Tree:
    """Average linkage of these cards on seconds a byte. Raises ValueError for a single card."""
    from scipy.cluster.hierarchy import linkage, to_tree
    from scipy.spatial.distance import squareform

    kinds = [kind for kind, count in cards for _ in range(count)]
    if len(kinds) < 2:
        raise ValueError("one card alone has nothing to be clustered with")
    distance = 1.0 / bandwidth_matrix(inventory, kinds)
    # Equal distances are decided by the order of cards, so that the tree is the same everywhere.
    places = np.arange(len(kinds))
    distance *= 1 + 1e-9 * np.abs(places[:, None] - places[None, :])
    return Tree(to_tree(linkage(squareform(distance, checks=False), method="average")), kinds)


def clustered(inventory: Inventory, capable: Capable, cards: Cards) -> list[Cards]:
    """Groups of ``cards`` from hierarchical clustering (``bandwidth_tree``), each able to hold the model.

    The tree is cut from its root as long as both halves can hold the model; what is too small alone goes with its
    neighbour, and clusters of many equal cards are cut into the smallest groups that still hold it. Raises ValueError if
    all cards together cannot.
    """
    if not capable(cards):
        raise ValueError(
            f"{inventory.cluster.name}: not even all cards together hold the model and its longest request"
        )
    if sum(count for _, count in cards) == 1:
        return [cards]
    tree = bandwidth_tree(inventory, cards)
    return [part for group in _cut(tree.root, tree.cards, capable) for part in carve(group, capable)]


def _cut(node: ClusterNode, cards: Callable[[ClusterNode], Cards], capable: Capable) -> list[Cards]:
    """The cards below ``node``, which can hold the model, in groups that can."""
    if node.is_leaf():
        return [cards(node)]
    able = [half for half in (node.get_left(), node.get_right()) if half is not None and capable(cards(half))]
    groups = [group for half in able for group in _cut(half, cards, capable)]
    if len(able) == 2:
        return groups
    if not able:
        return [cards(node)]
    rest = without(cards(node), cards(able[0]))
    smallest = min(range(len(groups)), key=lambda place: sum(count for _, count in groups[place]))
    groups[smallest] = together(groups[smallest], rest)
    return groups


def carve(cards: Cards, capable: Capable) -> list[Cards]:
    """Cut off the fewest cards of one kind that hold the model, again and again; the last group keeps the rest."""
    groups = []
    while (part := _smallest(cards, capable)) is not None and (left := without(cards, part)) and capable(left):
        groups.append(part)
        cards = left
    return [*groups, cards]


def _smallest(cards: Cards, capable: Capable) -> Cards | None:
    options = [((kind, size),) for kind, count in cards for size in range(1, count + 1) if capable(((kind, size),))]
    return min(options, key=lambda part: (part[0][1], part[0][0])) if options else None


def shuffled(
    inventory: Inventory, capable: Capable, cards: Cards, phases: Phases, rng: Rng, attempts: int = 200
) -> Solution:
    """Random groups and phases: cards are dealt at random until a group can hold the model (the paper's comparison).

    Raises ValueError if no attempt gives groups of both phases.
    """
    for _ in range(attempts):
        groups, open_group = [], Counter[int]()
        for kind in rng.permutation([kind for kind, count in cards for _ in range(count)]):
            open_group[int(kind)] += 1
            if capable(cards_of(open_group)):
                groups.append(cards_of(open_group))
                open_group = Counter()
        if groups:
            groups[-1] = together(groups[-1], cards_of(open_group))
        chosen = rng.choice(len(phases), len(groups))
        solution = canonical(Group(phases[int(one)], cards) for one, cards in zip(chosen, groups, strict=True))
        if groups and serves(solution):
            return solution
    raise ValueError(f"{inventory.cluster.name}: no {attempts} random partitions gave a plan that can serve")


def phased(
    groups: Iterable[Cards], leaning: Callable[[Cards], float], promise: Callable[[Solution], tuple[object, ...]]
) -> Solution:
    """The best of the phase assignments that split the groups, ordered by how they lean to prefill, at one point.

    ``leaning`` is larger for groups better at prefill than at decode; ``promise`` sorts the best assignment first.
    """
    ranked = sorted(groups, key=lambda cards: (-leaning(cards), cards))
    options = [
        canonical(Group(Phase.PREFILL if place < count else Phase.DECODE, cards) for place, cards in enumerate(ranked))
        for count in range(1, len(ranked))
    ]
    if not options:
        raise ValueError("one group alone cannot serve in two phases")
    return min(options, key=promise)
