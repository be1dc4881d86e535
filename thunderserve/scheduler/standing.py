"""Replicas that stay as they are, and what is known of the phases they could have: estimates, and scores in simulation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from thunderserve.scheduler.configuration import Configuration, StageChoice
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.inventory import Inventory
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.phasings import Phasing, Phasings, Stages
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.solution import Group, together
from thunderserve.spec.plan import Phase, Replica


def stages_of(inventory: Inventory, replica: Replica) -> tuple[StageChoice, ...]:
    """A replica's stages by kind. Raises ValueError for a stage over several kinds, which this planner never makes."""
    found = []
    for number, stage in enumerate(replica.stages):
        kinds = {inventory.kind_of[device] for device in stage.devices}
        if len(kinds) != 1:
            raise ValueError(f"stage {number} joins cards of several nodes or types: {stage.devices}")
        found.append(StageChoice(kinds.pop(), stage.tp, stage.num_layers))
    return tuple(found)


@dataclass
class Standing:
    """What is known of the phasings of fixed stages."""

    lower: Lower
    options: Phasings
    estimates: dict[Phasing, Estimate | None] = field(default_factory=dict)
    """None: a replica cannot hold the longest request in its phase, or nothing can pass."""
    attained: dict[Phasing, float] = field(default_factory=dict)
    """On the short trace."""
    _configurations: dict[tuple[Stages, Phase], Configuration] = field(default_factory=dict)

    def look(self, phasings: Iterable[Phasing]) -> None:
        """Estimate them."""
        for one in phasings:
            if one not in self.estimates:
                self.estimates[one] = self._estimate(one)

    def able(self) -> list[Phasing]:
        """Those estimated that can serve, the most promising first."""
        return sorted((one for one, estimate in self.estimates.items() if estimate is not None), key=self.promise)

    def needed(self, phasing: Phasing) -> Estimate:
        """The estimate of one that can serve. Raises ValueError otherwise."""
        estimate = self.estimates[phasing]
        if estimate is None:
            raise ValueError("a replica cannot serve in this phase")
        return estimate

    def promise(self, phasing: Phasing) -> tuple[float, float, int, Phasing]:
        """Sorts the best estimate first; of equals the one with fewer flips."""
        estimate, flipped = self.estimates[phasing], self.options.flipped(phasing)
        if estimate is None:
            return 1.0, 0.0, flipped, phasing
        return -round(estimate.attainment, 3), -estimate.capacity_per_s, flipped, phasing

    def simulate(self, phasings: Iterable[Phasing]) -> None:
        """Run them on the short trace."""
        for one in phasings:
            if one not in self.attained:
                self.attained[one] = self.lower.race.short.attainment(self.needed(one))

    def merit(self, phasing: Phasing) -> tuple[float, tuple[float, float, int, Phasing]]:
        """Sorts the best simulated first."""
        return -self.attained[phasing], self.promise(phasing)

    def winner(self, finalists: int) -> tuple[Phasing, Score]:
        """The best on both traces of the ``finalists`` best on the short one."""
        last = sorted(self.attained, key=self.merit)[:finalists]
        scores = {one: self.lower.race.finish(self.needed(one), self.attained[one]) for one in last}
        best = max(scores, key=lambda one: scores[one])
        return best, scores[best]

    def _configuration(self, stages: Stages, phase: Phase) -> Configuration:
        key = (stages, phase)
        if key not in self._configurations:
            self._configurations[key] = self.lower.estimator.deduce.finish(phase, stages)
        return self._configurations[key]

    def _estimate(self, phasing: Phasing) -> Estimate | None:
        chosen = tuple(map(self._configuration, self.options.stages, phasing))
        if any(one.kv_tokens < self.lower.estimator.sample.longest for one in chosen):
            return None
        groups = tuple(
            Group(one.phase, together(*(((stage.kind, stage.tp),) for stage in one.stages))) for one in chosen
        )
        return self.lower.estimator(groups, chosen)
