"""The objective: SLO attainment in simulation on the sample; ties by throughput, then price (the paper, second-hand)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thunderserve.cost.step_table import Ints
from thunderserve.scheduler.configuration import Configuration
from thunderserve.scheduler.deduce import Deducer
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.layer_costs import put_together
from thunderserve.scheduler.sample import Sample, at_rate
from thunderserve.serving.pool import FINISHED, NONE, Limits
from thunderserve.simulator.dense import Layouts
from thunderserve.simulator.fleet import Fleet, Outcome, ReplicaSetup, RouteSetup


class Score(NamedTuple):
    """Compared field by field; larger is better."""

    attainment: float
    """Share of the sample that met all limits."""
    capacity_per_s: float
    """Requests a second that replicas and links could carry, in closed form."""
    saved_per_hour: float
    """Minus the price of the cards in use."""


class Misses(NamedTuple):
    """Which requests of a sample missed a limit, and who served them; (N,) each."""

    late: NDArray[np.bool_]
    """The first token came after the TTFT limit, or never."""
    slow: NDArray[np.bool_]
    """The tokens after it took longer than the TPOT limit, the whole longer than the E2E limit, or it never finished."""
    prefill: Ints
    """Group, by number in the solution; -1 for requests that nobody could serve."""
    decode: Ints


@dataclass
class Simulation:
    """Scores estimates on the sample's trace."""

    deduce: Deducer
    sample: Sample
    layers: int = 0
    """Above 0, keys and values leave in so many parts while a prompt is computed."""
    simulated: int = 0
    """Requests simulated so far."""
    _setups: dict[tuple[object, ...], ReplicaSetup] = field(default_factory=dict)
    _layouts: Layouts = field(default_factory=Layouts)

    def on(self, sample: Sample) -> Simulation:
        """The same on another sample; what has been laid out is shared."""
        return replace(self, sample=sample, simulated=0)

    def at(self, multiple: float) -> Simulation:
        """The same on the same requests under a multiple of the load."""
        return self.on(at_rate(self.sample, self.sample.rate_per_s * multiple))

    def __call__(self, estimate: Estimate) -> Score:
        """The score of an estimate's solution and flows."""
        return self.score(estimate, self.attainment(estimate))

    def score(self, estimate: Estimate, attainment: float) -> Score:
        """The score at a known attainment."""
        return Score(attainment, estimate.capacity_per_s, -price_per_hour(self.deduce, estimate))

    def attainment(self, estimate: Estimate) -> float:
        """Share of the sample that meets its limits."""
        late, slow = self._missed(self._outcome(estimate).requests)
        return float((~(late | slow)).mean())

    def misses(self, estimate: Estimate) -> Misses:
        """What of the sample misses its limits, and where."""
        outcome = self._outcome(estimate)
        late, slow = self._missed(outcome.requests)
        served, route = outcome.requests["route"] != NONE, outcome.requests["route"]
        return Misses(
            late=late,
            slow=slow,
            prefill=np.where(served, outcome.routes["prefill"][route], -1),
            decode=np.where(served, outcome.routes["decode"][route], -1),
        )

    def _outcome(self, estimate: Estimate) -> Outcome:
        trace = self.sample.trace
        self.simulated += len(trace)
        return self.fleet(estimate).run(trace.arrival_s, trace.prompt_tokens, trace.output_tokens)

    def _missed(self, rows: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """``late`` and ``slow`` of ``Misses``."""
        trace, limits = self.sample.trace, self.sample.limits
        ttft_s = rows["first_token_s"] - trace.arrival_s
        rest_s = rows["finish_s"] - rows["first_token_s"]
        steps = trace.output_tokens - 1
        kept = rows["status"] == FINISHED
        kept &= (steps == 0) | (rest_s <= np.where(steps > 0, steps * limits.tpot_s, np.inf))
        kept &= rows["finish_s"] - trace.arrival_s <= limits.e2e_s
        return ~(ttft_s <= limits.ttft_s), ~kept

    def fleet(self, estimate: Estimate) -> Fleet:
        """The estimate's replicas and routes as the simulator takes them."""
        numbers: dict[tuple[str, str], int] = {}
        routes = []
        for arc in estimate.arcs:
            if arc.passage is None:
                routes.append(RouteSetup(arc.prefill, arc.decode, arc.share))
                continue
            passage = arc.passage
            own = [(f"from {arc.prefill}", f"to {arc.decode}")] if passage.inside else []
            links = tuple(numbers.setdefault(link, len(numbers)) for link in [*passage.links, *own])
            routes.append(
                RouteSetup(
                    arc.prefill,
                    arc.decode,
                    arc.share,
                    links,
                    passage.alpha_s,
                    passage.wire_s_per_token,
                    passage.encode_s_per_token,
                    passage.decode_s_per_token,
                    self.layers,
                )
            )
        setups = [self.setup(one) for one in estimate.configurations]
        return Fleet(setups, routes, links=len(numbers), layouts=self._layouts)

    def setup(self, configuration: Configuration) -> ReplicaSetup:
        """Step table and limits of a configuration; one object for all that are alike."""
        kinds = self.deduce.inventory.kinds
        hops = tuple(self.deduce.inventory.path(a.kind, b.kind) for a, b in pairwise(configuration.stages))
        stages = tuple((kinds[stage.kind].breed, stage.tp, stage.num_layers) for stage in configuration.stages)
        key = (configuration.phase, stages, hops, configuration.max_sequences)
        found = self._setups.get(key)
        if found is None:
            found = self._setups[key] = self._setup(configuration)
        return found

    def _setup(self, configuration: Configuration) -> ReplicaSetup:
        deduce, stages = self.deduce, configuration.stages
        book, batching = deduce.book, deduce.batching[configuration.phase]
        costs = [book(deduce.inventory.kinds[stage.kind].breed, stage.tp) for stage in stages]
        last = len(stages) - 1
        rows = [
            one.stage(stage.num_layers, first=place == 0, last=place == last)
            for place, (one, stage) in enumerate(zip(costs, stages, strict=True))
        ]
        hops = [deduce.hop(a.kind, b.kind) for a, b in pairwise(stages)]
        table = put_together(
            rows, costs[0].knots, [*(hop.latency_s for hop in hops), 0.0], [*(1 / hop.bytes_per_s for hop in hops), 0.0]
        )
        limits = Limits(
            chunked=batching.policy == "chunked",
            stages=len(stages),
            block_tokens=batching.block_tokens,
            blocks=configuration.kv_tokens // batching.block_tokens,
            watermark_blocks=0,
            max_sequences=configuration.max_sequences,
            max_batched_tokens=batching.step_tokens,
        )
        return ReplicaSetup(table, limits)


def price_per_hour(deduce: Deducer, estimate: Estimate) -> float:
    """USD for an hour of the cards in use."""
    kinds = deduce.inventory.kinds
    return sum(
        stage.tp * kinds[stage.kind].gpu.price_per_hour for one in estimate.configurations for stage in one.stages
    )
