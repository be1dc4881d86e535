"""The lower level: given groups and phases, everything else, and how good it is. Remembers what it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from thunderserve.cost.memory import MemoryRules
from thunderserve.policy import Problem
from thunderserve.scheduler.batching import DEFAULT_BATCHING, BatchingRules, bounds_of
from thunderserve.scheduler.deduce import Deducer
from thunderserve.scheduler.estimate import DEFAULT_ORCHESTRATION, Estimate, Estimator, Orchestration
from thunderserve.scheduler.inventory import Inventory, take_stock
from thunderserve.scheduler.layer_costs import LayerCostBook
from thunderserve.scheduler.pairs import Passages
from thunderserve.scheduler.race import Race
from thunderserve.scheduler.sample import Sample, draw, further
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.solution import Cards, Group, Solution
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.plan import Phase, Transfer

LONGER_SEED = 4001
"""Added to the planner's seed for the longer sample of a search."""
ROOMY = 12
"""Cards of a group of several kinds; none larger is tried."""


@dataclass
class Lower:
    """Estimates and scores of solutions for one problem."""

    estimator: Estimator
    race: Race
    keep: int = 4
    """Neighbours a step that are worth a simulation: the best by estimate."""
    estimated: dict[Solution, Estimate | None] = field(default_factory=dict)

    @property
    def inventory(self) -> Inventory:
        """The cards."""
        return self.estimator.deduce.inventory

    @property
    def simulation(self) -> Simulation:
        """Of the short sample."""
        return self.race.short

    def estimate(self, solution: Solution) -> Estimate | None:
        """The closed forms' view; None if a group cannot hold the model."""
        if solution not in self.estimated:
            self.estimated[solution] = self.estimator(solution)
        return self.estimated[solution]

    def score(self, solution: Solution) -> Score:
        """The objective of a search. Raises ValueError for a solution that cannot run."""
        return self.race(self.needed(solution))

    def needed(self, solution: Solution) -> Estimate:
        """The estimate of a solution that can run. Raises ValueError otherwise."""
        estimate = self.estimate(solution)
        if estimate is None:
            raise ValueError("a group of this solution cannot hold the model")
        return estimate

    def capable(self, cards: Cards) -> bool:
        """Whether a decode group of these cards holds the model and the longest request (large ones: very likely does)."""
        deduce = self.estimator.deduce
        if sum(count for _, count in cards) > ROOMY:
            return deduce.holds(tuple((kind, (1,) * count) for kind, count in cards))
        return deduce(Group(Phase.DECODE, cards)) is not None

    def feasible(self, solution: Solution) -> bool:
        """Whether every group can hold the model: what is pruned before anything is estimated."""
        if any(group.size > ROOMY and len(group.cards) > 1 for group in solution):
            return False
        return all(self.estimator.deduce(group) is not None for group in solution)

    def able(self, solution: Solution) -> bool:
        """Whether the solution is feasible and can be estimated."""
        return self.feasible(solution) and self.estimate(solution) is not None

    def shortlist(self, solutions: Sequence[Solution], keep: int | None = None) -> list[Solution]:
        """The ``keep`` most promising by estimate."""
        able = (one for one in solutions if self.estimate(one) is not None)
        return sorted(able, key=self.promise)[: keep or self.keep]

    def promise(self, solution: Solution) -> tuple[float, float, Solution]:
        """Sorts the best estimate first."""
        estimate = self.estimate(solution)
        if estimate is None:
            return 1.0, 0.0, solution
        return -round(estimate.attainment, 3), -estimate.capacity_per_s, solution

    def leaning(self, cards: Cards) -> float:
        """Prefill capacity over decode capacity of a group."""
        deduce = self.estimator.deduce
        prefill, decode = deduce(Group(Phase.PREFILL, cards)), deduce(Group(Phase.DECODE, cards))
        if prefill is None or decode is None:
            return 0.0
        return 1.0 / (prefill.busy_s * float(decode.rate_per_s.max()))


def lower_level(
    problem: Problem,
    codecs: tuple[KvCodec, ...],
    *,
    batching: BatchingRules = DEFAULT_BATCHING,
    orchestration: Orchestration = DEFAULT_ORCHESTRATION,
    requests: int = 600,
    longer_requests: int = 0,
    strata: int = 48,
    keep: int = 4,
    sample: Sample | None = None,
    transfer: Transfer = "after_prefill",
    alike: bool = False,
) -> Lower:
    """Prepare for ``problem``: draw the sample, price the stages. Without ``longer_requests`` scores are of one sample.

    With ``alike`` all stages of a replica have one TP degree.
    Closed forms take every transfer as one after the prefill; where it is ``layerwise``, the simulated score knows better.
    """
    inventory = take_stock(problem.cluster)
    drawn = sample or draw(problem, requests, strata, problem.seed)
    by_phase = batching.by_phase()
    book = LayerCostBook(problem.costs, problem.model, bounds_of(problem.model, by_phase))
    deduce = Deducer(inventory, problem.model, book, drawn, by_phase, MemoryRules(), alike)
    passages = Passages(inventory, problem.model, codecs, drawn.mean_prompt, problem.costs.codec_speed)
    short = Simulation(deduce, drawn, problem.model.num_layers if transfer == "layerwise" else 0)
    longer = further(problem, drawn, longer_requests, problem.seed + LONGER_SEED) if longer_requests else None
    race = Race(short, None if longer is None else short.on(longer))
    return Lower(Estimator(deduce, passages, drawn, orchestration), race, keep)
