"""The ``thunderserve`` system: the paper's two-level scheduler, with its ablations as options."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thunderserve.policy import Problem
from thunderserve.scheduler.moves import ALL, SPLIT, Phases
from thunderserve.spec.kv import INT4, RAW, KvCodec
from thunderserve.spec.plan import Phase, Plan, Transfer

if TYPE_CHECKING:  # options are checked without the compiled parts, which take a second to import
    from thunderserve.scheduler import search as upper
    from thunderserve.scheduler.lower import Lower
    from thunderserve.scheduler.reschedule import Rescheduled

CODECS: dict[str, tuple[KvCodec, ...]] = {"4bit": (INT4,), "16bit": (RAW,), "auto": (INT4, RAW)}
PHASES: dict[str, Phases] = {"on": SPLIT, "auto": ALL, "off": (Phase.BOTH,)}


@dataclass(frozen=True)
class System:
    """Options of the ``thunderserve`` system. The defaults are the paper's choices where they are known."""

    codec: Literal["4bit", "16bit", "auto"] = "4bit"
    """How KV travels; ``auto`` takes, pair by pair, what is faster for the mean prompt."""
    transfer: Transfer = "after_prefill"
    """When KV leaves. The paper does not say; its formula adds the transfer to the prefill. ``layerwise`` hides it behind."""
    degrees: Literal["mixed", "alike"] = "mixed"
    """Whether stages of one replica may differ in TP degree, as the paper's do; ``alike`` for plans that vLLM carries out."""
    orchestration: Literal["lp", "uniform"] = "lp"
    """Flows from the linear program, or (ablation) the same share for every pair."""
    init: Literal["cluster", "random"] = "cluster"
    """Where the search starts."""
    phase_split: Literal["on", "auto", "off"] = "on"
    """``auto`` also allows colocated replicas, ``off`` nothing else."""
    heterogeneity: Literal["aware", "blind"] = "aware"
    """``blind`` (ablation) plans as if all cards had the mean speed and all links the mean bandwidth."""
    steps: int = 100
    no_gain: int = 40
    """Stop after this many steps without a better score."""
    seconds: float | None = None
    """Wall time of the whole, the last choice included, if it is to be limited; the plan then depends on the machine."""
    neighbours: int = 32
    tenure: int = 12
    patience: int = 15
    simulate: int = 6
    """Neighbours a step that are simulated: the best by estimate."""
    requests: int = 600
    """Requests of the sample that every score is simulated on."""
    longer_requests: int = 2400
    """Requests of a second sample, for those that keep up with the best on the first; 0: none."""
    judged_requests: int = 3000
    """Requests of each sample, not seen by the search, on which its best solutions are judged at the end."""
    finalists: int = 8
    corrections: int = 3
    """Of the finalists, how many also run with flows corrected by simulation; none under uniform orchestration."""
    headroom: Literal["on", "off"] = "on"
    """Where most plans meet nearly all limits, the one under which the load could rise farthest; ``off``: attainment alone,
    ties to the highest capacity in closed form."""
    seed: int = 0
    saturation_tokens: int = 2048
    max_sequences: int = 256

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError, in words, when the cluster cannot serve the model this way."""
        plan, _ = self.search(problem)
        return plan

    def search(self, problem: Problem, watch: upper.Watch | None = None) -> tuple[Plan, upper.Found]:
        """The plan and how it was found; ``watch`` sees every step."""
        from thunderserve.scheduler import search as upper
        from thunderserve.scheduler.materialise import plan_of

        settings = self.settings(problem)  # the clock runs from here
        lower = self.lower(problem)
        found = upper.run(problem, lower, settings, watch or upper.ignore)
        batching = lower.estimator.deduce.batching
        plan = plan_of("thunderserve", lower.inventory, found.estimate, batching, upper.notes(lower, found))
        plan = plan.model_copy(update={"transfer": self.transfer})
        plan.check(problem.cluster, problem.model)
        return plan, found

    def reschedule(
        self, plan: Plan, problem: Problem, lost: Collection[int] = (), *, every: bool = False
    ) -> Rescheduled:
        """Lightweight: only phases and flows of a running plan change, for a new workload or without the ``lost`` cards.

        ``every`` tries all assignments of phases, for comparison.
        """
        from thunderserve.scheduler.reschedule import reschedule

        return reschedule(plan, self.lower(problem), lost=lost, phases=self.phases, every=every)

    def settings(self, problem: Problem) -> upper.Settings:
        """How to search under these options."""
        from thunderserve.scheduler import search as upper
        from thunderserve.scheduler import stops
        from thunderserve.scheduler.tabu import Parameters

        return upper.Settings(
            phases=self.phases,
            stop=stops.any_of(stops.after_steps(self.steps), stops.without_gain(self.no_gain)),
            init=self.init,
            parameters=Parameters(neighbours=self.neighbours, tenure=self.tenure, patience=self.patience),
            seed=(self.seed, problem.seed),
            judged_requests=self.judged_requests,
            finalists=self.finalists,
            corrections=self.corrections,
            headroom=self.headroom == "on",
            ends_s=math.inf if self.seconds is None else time.perf_counter() + self.seconds,
        )

    @property
    def phases(self) -> Phases:
        """What a group may serve."""
        return PHASES[self.phase_split]

    def lower(self, problem: Problem) -> Lower:
        """The lower level for a problem under these options."""
        from thunderserve.scheduler.batching import BatchingRules
        from thunderserve.scheduler.estimate import Orchestration
        from thunderserve.scheduler.lower import lower_level

        if self.heterogeneity == "blind":
            from thunderserve.scheduler.blind import levelled

            problem = levelled(problem)
        return lower_level(
            problem,
            CODECS[self.codec],
            batching=BatchingRules(self.saturation_tokens, self.max_sequences),
            orchestration=Orchestration(uniform=self.orchestration == "uniform"),
            requests=self.requests,
            longer_requests=self.longer_requests,
            keep=self.simulate,
            transfer=self.transfer,
            alike=self.degrees == "alike",
        )
