"""The objective of a search: all solutions on a short trace, and those that keep up with the best on a longer one as well.

A short trace is cheap but kind: it ends before the queues of an overloaded plan have grown, and the best of hundreds of scores
on it is partly luck. A long trace for each solution leaves time for few of them. So a solution runs the long one only if it
is not clearly behind the leader on the short one, as in racing and successive halving (Maron and Moore, 1994;
Jamieson and Talwalkar, 2016). What is left behind is compared with the leader on the short trace, which both have run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.solution import Solution

DEVIATIONS = 2.5
"""Standard deviations of a share of the short trace's requests that a solution may be behind. Near saturation one is too few:
a leader that is only lucky there shuts others out."""


class Entry(NamedTuple):
    """A solution that has run both traces."""

    short: float
    """Attainment on the short trace."""
    score: Score
    """On all requests of both."""


@dataclass
class Race:
    """Scores estimates. What a solution scores depends on the leader when it comes, so ask in a fixed order."""

    short: Simulation
    long: Simulation | None = None
    """None: the short trace decides alone."""
    deviations: float = DEVIATIONS
    """How far behind the leader, on the short trace, a solution still runs the long one."""
    finished: dict[Solution, Score] = field(default_factory=dict)
    """The scores of all that have run both traces in a race."""
    _leader: Entry | None = None

    def __call__(self, estimate: Estimate) -> Score:
        """The score on both traces; of one that is left behind, the leader's less what it is behind on the short trace."""
        short, leader = self.short.attainment(estimate), self._leader
        if leader is not None and self.long is not None and self._behind(leader, estimate, short):
            return self.short.score(estimate, max(0.0, leader.score.attainment - (leader.short - short)))
        score = self.finish(estimate, short)
        if leader is None or score > leader.score:
            self._leader = Entry(short, score)
        return score

    def _behind(self, leader: Entry, estimate: Estimate, short: float) -> bool:
        """Whether a solution is not worth the long trace: it is far behind, or could not lead if it met all limits.

        Far behind is less than luck explains, and less on the short trace, which is kind, than the leader on both.
        """
        share = leader.score.attainment
        deviation = math.sqrt(share * (1 - share) / len(self.short.sample.trace))
        least = min(leader.short - self.deviations * deviation, share)
        return short < least or self.short.score(estimate, 1.0) <= leader.score

    @property
    def requests(self) -> int:
        """Of both traces."""
        return len(self.short.sample.trace) + (0 if self.long is None else len(self.long.sample.trace))

    def whole(self, estimate: Estimate) -> Score:
        """The score on both traces, whoever leads."""
        return self.short.score(estimate, self._pooled(estimate, self.short.attainment(estimate)))

    def finish(self, estimate: Estimate, short: float) -> Score:
        """The score on both traces of a solution that attains ``short`` on the short one, whoever leads."""
        score = self.short.score(estimate, self._pooled(estimate, short))
        self.finished[estimate.solution] = score
        return score

    def _pooled(self, estimate: Estimate, short: float) -> float:
        """Share of the requests of both traces that meet their limits."""
        if self.long is None:
            return short
        few, many = len(self.short.sample.trace), len(self.long.sample.trace)
        return (few * short + many * self.long.attainment(estimate)) / (few + many)
