"""Phases of replicas that stay as they are: what can change in one step, replicas that are alike told from those that are not.

Replicas with equal stages can trade phases without any effect, so a phasing stands for all that differ only by this: the one
that flips the fewest of the present phases.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from thunderserve.scheduler.configuration import StageChoice
from thunderserve.spec.plan import Phase

Phasing = tuple[Phase, ...]
"""The phase of each replica."""
Stages = tuple[StageChoice, ...]
MOST = 4096
"""Phasings, alike or not, beyond which nobody would wait for all."""


@dataclass(frozen=True)
class Phasings:
    """Phasings of replicas with these stages, which have the phases ``present``."""

    stages: tuple[Stages, ...]
    present: Phasing
    phases: tuple[Phase, ...]
    """What a replica may serve."""

    def all(self) -> list[Phasing]:
        """Every phasing. Raises ValueError where they are more than ``MOST``."""
        if (count := len(self.phases) ** len(self.stages)) > MOST:
            raise ValueError(
                f"{len(self.stages)} replicas have {count:,} assignments of phases; {MOST:,} are the limit"
            )
        return self._unlike(product(self.phases, repeat=len(self.stages)))

    def flips(self, phasing: Phasing) -> list[Phasing]:
        """All phasings that differ in the phase of one replica."""
        return self._unlike(
            (*phasing[:place], phase, *phasing[place + 1 :])
            for place, present in enumerate(phasing)
            for phase in self.phases
            if phase is not present
        )

    def exchanges(self, phasing: Phasing) -> list[Phasing]:
        """All phasings in which two replicas have traded phases."""
        return self._unlike(
            _traded(phasing, a, b) for a in range(len(phasing)) for b in range(a) if phasing[a] is not phasing[b]
        )

    def flipped(self, phasing: Phasing) -> int:
        """Replicas whose present phase changes."""
        return sum(a is not b for a, b in zip(phasing, self.present, strict=True))

    def settled(self, phasing: Phasing) -> Phasing:
        """The phasing that stands for this one."""
        left: dict[Stages, Counter[Phase]] = defaultdict(Counter)
        for own, phase in zip(self.stages, phasing, strict=True):
            left[own][phase] += 1
        kept: list[Phase | None] = []
        for own, phase in zip(self.stages, self.present, strict=True):
            keeps = left[own][phase] > 0
            left[own][phase] -= keeps
            kept.append(phase if keeps else None)
        rest = {own: iter(sorted(counts.elements())) for own, counts in left.items()}
        return tuple(phase or next(rest[own]) for own, phase in zip(self.stages, kept, strict=True))

    def _unlike(self, options: Iterable[Phasing]) -> list[Phasing]:
        return list(dict.fromkeys(map(self.settled, options)))


def _traded(phasing: Phasing, a: int, b: int) -> Phasing:
    changed = list(phasing)
    changed[a], changed[b] = phasing[b], phasing[a]
    return tuple(changed)
