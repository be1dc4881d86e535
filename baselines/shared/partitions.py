"""Partitions of a cluster's cards into groups, counted by site: equal cards of a node are interchangeable."""

from __future__ import annotations

import numpy as np

from baselines.shared.pipelines import Site
from baselines.shared.stages import Devices

Group = tuple[int, ...]
"""Cards of each site that serve one replica."""
Genes = tuple[Group, ...]
"""A partition of all cards, its groups in descending order: what is interchangeable is equal."""


def canonical(groups: list[Group]) -> Genes:
    """Groups in descending order, empty ones left out."""
    return tuple(sorted((group for group in groups if any(group)), reverse=True))


def add(a: Group, b: Group) -> Group:
    """Both groups together."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


def subtract(a: Group, b: Group) -> Group:
    """What is left of the first without the second."""
    return tuple(x - y for x, y in zip(a, b, strict=True))


def only(sites: int, site: int, cards: int) -> Group:
    """Some cards of a single site."""
    return tuple(cards if index == site else 0 for index in range(sites))


def dealt(all_sites: tuple[Site, ...], genes: Genes) -> list[Devices]:
    """Cards for every group. Even counts choose first at each site, so that bridged pairs stay together."""
    cards: list[list[int]] = [[] for _ in genes]
    for index, site in enumerate(all_sites):
        start = 0
        for number in sorted(range(len(genes)), key=lambda i: genes[i][index] % 2):
            cards[number] += site.devices[start : start + genes[number][index]]
            start += genes[number][index]
    return [tuple(sorted(group)) for group in cards]


def merged(genes: Genes, rng: np.random.Generator) -> Genes:
    """Two random groups become one."""
    if len(genes) < 2:
        return genes
    groups, first, second = _two_taken(genes, rng)
    return canonical([*groups, add(first, second)])


def split(genes: Genes, rng: np.random.Generator) -> Genes:
    """A random group becomes two: halves at every site, or (as often) any cut."""
    groups = list(genes)
    group = groups.pop(int(rng.integers(len(groups))))
    halves = rng.random() < 0.5
    part = tuple(count // 2 if halves else int(rng.integers(count + 1)) for count in group)
    return canonical([*groups, part, subtract(group, part)])


def swapped(genes: Genes, rng: np.random.Generator) -> Genes:
    """A random group gives cards of one of its sites to another, and (half of the time) takes cards of a site back."""
    if len(genes) < 2:
        return genes
    groups, giver, taker = _two_taken(genes, rng)
    giver, taker = _given(giver, taker, rng)
    if rng.random() < 0.5:
        taker, giver = _given(taker, giver, rng)
    return canonical([*groups, giver, taker])


def _given(giver: Group, taker: Group, rng: np.random.Generator) -> tuple[Group, Group]:
    owned = [site for site, count in enumerate(giver) if count]
    if not owned:
        return giver, taker
    site = owned[int(rng.integers(len(owned)))]
    moved = only(len(giver), site, int(rng.integers(giver[site])) + 1)
    return subtract(giver, moved), add(taker, moved)


def _two_taken(genes: Genes, rng: np.random.Generator) -> tuple[list[Group], Group, Group]:
    """The other groups, and two random ones."""
    a, b = (int(index) for index in rng.choice(len(genes), size=2, replace=False))
    return [group for index, group in enumerate(genes) if index not in (a, b)], genes[a], genes[b]
