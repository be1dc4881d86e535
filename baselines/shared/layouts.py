"""Pipelines remembered: a layout is searched once for every makeup of a group of cards."""

from __future__ import annotations

from baselines.shared.pipelines import Objective, Priced, find, sites
from baselines.shared.stages import Devices, StageBook, remember

Makeup = tuple[Objective, tuple[tuple[int, int, int], ...]]


class Layouts:
    """The best layouts of groups of cards. Groups with as many cards of the same sites, as many of them bridged, are alike."""

    def __init__(self, book: StageBook, max_stages: int = 8) -> None:
        self.book, self.max_stages = book, max_stages
        self.sites = sites(book.cluster)
        self._partner = {bridge.first: bridge.second for bridge in book.cluster.bridges}
        self._found: dict[Makeup, tuple[Priced, Devices] | None] = {}
        self._site = {device: index for index, site in enumerate(self.sites) for device in site.devices}

    @property
    def searched(self) -> int:
        """Makeups that were searched."""
        return len(self._found)

    def best(self, devices: Devices, objective: Objective) -> Priced | None:
        """``pipelines.find`` for these cards; None if they do not hold the model."""
        parts = sites(self.book.cluster, devices)
        cards = tuple(card for part in parts for card in part.devices)
        makeup = tuple(
            (
                self._site[part.devices[0]],
                len(part.devices),
                sum(self._partner.get(c) in part.devices for c in part.devices),
            )
            for part in parts
        )
        found = remember(self._found, (objective, makeup), lambda: self._search(cards, objective))
        if found is None:
            return None
        priced, owners = found
        same = dict(zip(owners, cards, strict=True))
        return Priced(tuple((tuple(same[c] for c in stage), n) for stage, n in priced.layout), priced.score)

    def _search(self, cards: Devices, objective: Objective) -> tuple[Priced, Devices] | None:
        priced = find(self.book, cards, objective, self.max_stages)
        return (priced, cards) if priced is not None else None
