"""Numbers that describe a solution in a moment: what a learned policy sees. No flows are solved, nothing is simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import NamedTuple

import numpy as np

from thunderserve.cost.step_table import Floats
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.solution import Group, Solution
from thunderserve.spec.plan import Phase

NAMES = (
    "prefill room",
    "decode room",
    "tightest room",
    "prefill in time",
    "decode in time",
    "groups a card",
    "kinds a group",
    "nodes a group",
)
ROOMIEST = 2.0
"""Logarithm of capacity over load beyond which more is worth nothing."""


class Part(NamedTuple):
    """What a group adds: requests a second in each phase, and how much of that is in time."""

    prefill: float = 0.0
    early: float = 0.0
    decode: float = 0.0
    steady: float = 0.0


@dataclass
class Traits:
    """``traits(solution)``: (F,) values, about -2 to 2 each, in the order of ``NAMES``. Groups are remembered."""

    lower: Lower
    _known: dict[Group, Part] = field(default_factory=dict)

    def __call__(self, solution: Solution) -> Floats:
        """The traits of a solution."""
        parts = [self._part(group) for group in solution]
        prefill, early, decode, steady = (sum(column) for column in zip(*parts, strict=True))
        kinds, rate_per_s = self.lower.inventory.kinds, self.lower.estimator.sample.rate_per_s
        rooms = [min(max(log(max(one, 1e-9) / rate_per_s), -ROOMIEST), ROOMIEST) for one in (prefill, decode)]
        nodes = sum(len({kinds[kind].node for kind, _ in group.cards}) for group in solution)
        return np.array(
            [
                *rooms,
                min(rooms),
                early / prefill if prefill else 0.0,
                steady / decode if decode else 0.0,
                len(solution) / sum(group.size for group in solution),
                sum(len(group.cards) for group in solution) / len(solution) - 1,
                nodes / len(solution) - 1,
            ]
        )

    def _part(self, group: Group) -> Part:
        if group not in self._known:
            self._known[group] = self._describe(group)
        return self._known[group]

    def _describe(self, group: Group) -> Part:
        configuration, sample = self.lower.estimator.deduce(group), self.lower.estimator.sample
        if configuration is None:
            return Part()
        part = Part()
        if group.phase is not Phase.DECODE:
            prefill = 1 / configuration.busy_s
            part = part._replace(
                prefill=prefill,
                early=prefill * float((configuration.latency_s <= sample.strata_limits.ttft_s).mean()),
            )
        if group.phase is not Phase.PREFILL:
            rates = configuration.rate_per_s / sample.mean_steps
            within = rates[configuration.cycle_s <= sample.tpot_target_s]
            part = part._replace(decode=float(rates.max()), steady=float(within.max()) if len(within) else 0.0)
        return part
