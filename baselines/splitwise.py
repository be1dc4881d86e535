"""Splitwise: prompt, token and mixed pools of identical machines, each request sent to the shortest queues.

Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting" (ISCA 2024, arXiv 2311.18677), section IV.

* Machines: one replica each, of one GPU type. Prompt machines batch prompts up to 2,048 tokens first come first served,
  token machines batch as many sequences as fit, mixed machines run both in one batch.
* Routing: the cluster scheduler joins the shortest queue, and picks the prompt and the token machine together, on arrival.
* Provisioning: pool sizes are enumerated and simulated on the expected workload, and the best is kept. With several GPU types
  this is the heterogeneous design (Splitwise-HA): the types with the most compute for their bandwidth take the prompts.

Approximated. The mixed pool: in the paper machines join it while the queues of their own pool are long and leave it again;
here it has few and fixed members, ``BOTH`` replicas that take prompts, tokens or both, but hand nothing to each other. The
KV transfer: in the paper layer by layer, hidden behind the prompt; a plan's transfer starts when the prefill ends, so here
all of it is seen, which slow links feel (splitwise-sim hides nine tenths). Queues are counted in pending prompt tokens. Machines
are whole DGX in the paper; here a few sizes are tried. Left out: provisioning for cost or power (the cluster is given) and
power capping. The simulator and the cost model are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from baselines.shared.instances import Shape, pack, replica, shapes
from baselines.shared.load import typical
from baselines.shared.memo import Remembered
from baselines.shared.rating import Rater, Rating
from baselines.shared.stages import remember
from thunderserve.policy import Problem
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica

Stages = tuple[tuple[int, ...], ...]
Fleet = tuple[Stages, ...]

SCALES = (1, 2, 4)
"""Sizes of machines that are tried, in multiples of the fewest cards that hold the model."""


class Pools(NamedTuple):
    """Machines of each pool; prompt machines are the first in order, token machines the last."""

    prompt: int
    token: int
    mixed: int


class Provisioned(NamedTuple):
    """Machines and their pools, and how they did."""

    rating: Rating
    fleet: Fleet
    pools: Pools


@dataclass(frozen=True)
class System:
    """Options of the ``splitwise`` system."""

    prompt: int | None = None
    """Fix the machines of the prompt pool instead of trying all sizes."""
    token: int | None = None
    """Fix the machines of the token pool. With both fixed, the rest is mixed."""
    mixed_share: float = 0.25
    """Most of the machines that may be in the mixed pool: a place for the overflow, not the way to serve."""
    steps: int = 12
    """A grid of about this many sizes a pool is tried first, then the neighbours of the best."""
    requests: int = 1000
    """Requests simulated for each size."""
    prompt_tokens: int = 2048
    """Tokens up to which a prompt machine batches; above it throughput falls (its section IV-B)."""
    max_sequences: int = 256

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when fewer than two machines can be made."""
        rater = Rater(problem, self.requests, Remembered(problem.costs))
        fleets = dict.fromkeys(fleet for fleet in (self._fleet(problem, scale) for scale in SCALES) if len(fleet) > 1)
        if not fleets:
            name, model = problem.cluster.name, problem.model.name
            raise ValueError(f"splitwise: {name} does not make two machines that hold {model}")
        found = [self._provisioned(problem, fleet, rater) for fleet in fleets if self._grid(len(fleet))]
        if not found:
            counts = ", ".join(str(len(fleet)) for fleet in fleets)
            raise ValueError(
                f"splitwise: prompt={self.prompt} and token={self.token} do not share out {counts} machines"
            )
        best = max(found, key=lambda one: one.rating)
        pools = best.pools
        notes = {
            "search": f"{rater.evaluations} pool sizes simulated over {len(fleets)} sizes of machines",
            "estimate": f"attainment {best.rating.attainment:.3f} on {self.requests} requests",
            "pools": f"{pools.prompt} prompt, {pools.token} token, {pools.mixed} mixed machines",
            "machines": "; ".join(_counted(problem, best.fleet)),
        }
        return self._plan(problem, best.fleet, pools, notes)

    def _provisioned(self, problem: Problem, fleet: Fleet, rater: Rater) -> Provisioned:
        """The best pool sizes for these machines: a grid, then one machine at a time while that helps."""
        known: dict[Pools, Rating] = {}

        def rated(pools: Pools) -> Rating:
            return remember(known, pools, lambda: rater.rate(self._plan(problem, fleet, pools, {})))

        best = max(self._grid(len(fleet)), key=rated)
        while (better := max([best, *self._near(best, len(fleet))], key=rated)) != best:
            best = better
        return Provisioned(rated(best), fleet, best)

    def _fleet(self, problem: Problem, scale: int) -> Fleet:
        """All machines, those with the most compute for their bandwidth first.

        A machine of a type has ``scale`` times the fewest cards that hold the model (or as many as there are), and the
        larger TP degree where shapes have equally many cards, as the paper's machines have.
        """
        longest = typical(problem).longest
        machines: list[Stages] = []
        for gpu in sorted(problem.cluster.gpus, key=lambda name: -_intensity(problem, name)):
            found = shapes(problem.cluster, problem.model, gpu, self._batching(Phase.BOTH), longest)
            fewest = min((shape.num_gpus for shape in found), default=0)
            able = [shape for shape in found if shape.num_gpus <= scale * fewest]
            if able:
                shape: Shape = max(able, key=lambda shape: (shape.num_gpus, shape.tp))
                machines += pack(problem.cluster, shape)
        return tuple(machines)

    def _grid(self, count: int) -> list[Pools]:
        """Pool sizes to begin with: every few prompt machines, every few mixed machines; none if what is fixed does not fit."""
        step = max(round(count / self.steps), 1)
        pools = [Pools(p, t, count - p - t) for p in range(1, count) for t in range(1, count - p + 1)]
        allowed = [one for one in pools if self._allowed(one, count)]
        coarse = [one for one in allowed if one.prompt % step == 1 % step and one.mixed % step == 0]
        return coarse or allowed

    def _near(self, pools: Pools, count: int) -> Iterator[Pools]:
        """One machine moved from one pool to another."""
        for p, t in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, 1), (1, -1)):
            near = Pools(pools.prompt + p, pools.token + t, pools.mixed - p - t)
            if min(near.prompt, near.token) >= 1 and near.mixed >= 0 and self._allowed(near, count):
                yield near

    def _allowed(self, pools: Pools, count: int) -> bool:
        fixed = self.prompt in (None, pools.prompt) and self.token in (None, pools.token)
        return fixed and (pools.mixed <= self.mixed_share * count or None not in (self.prompt, self.token))

    def _batching(self, phase: Phase) -> Batching:
        if phase is Phase.PREFILL:
            return Batching(
                policy="saturation",
                saturation_tokens=self.prompt_tokens,
                max_batched_tokens=self.prompt_tokens,
                max_sequences=self.max_sequences,
            )
        if phase is Phase.DECODE:
            return Batching(
                policy="continuous", max_sequences=self.max_sequences, max_batched_tokens=self.max_sequences
            )
        return Batching(policy="chunked", max_sequences=self.max_sequences, max_batched_tokens=self.prompt_tokens)

    def _plan(self, problem: Problem, fleet: Fleet, pools: Pools, notes: dict[str, str]) -> Plan:
        phases = [Phase.PREFILL] * pools.prompt + [Phase.BOTH] * pools.mixed + [Phase.DECODE] * pools.token
        replicas: list[Replica] = [
            replica(problem.model, stages, phase, self._batching(phase))
            for stages, phase in zip(fleet, phases, strict=True)
        ]
        pairs = [
            (i, j)
            for i, first in enumerate(phases)
            for j, second in enumerate(phases)
            if (first is not second and first is not Phase.DECODE and second is not Phase.PREFILL)
            or (i == j and first is Phase.BOTH)
        ]
        flows = tuple(Flow(prefill=i, decode=j, share=1 / len(pairs)) for i, j in pairs)
        return Plan(
            system="splitwise",
            replicas=tuple(replicas),
            flows=flows,
            router="fewest_tokens",
            transfer="layerwise",
            notes=notes,
        )


def _intensity(problem: Problem, gpu: str) -> float:
    """Operations a byte of memory traffic: what prompts need much of, and tokens little."""
    card = problem.cluster.gpus[gpu]
    return card.flops / card.memory_bytes_per_s


def _counted(problem: Problem, fleet: Fleet) -> list[str]:
    """How many machines of each kind."""
    kinds = [(problem.cluster.devices[one[0][0]].gpu, len(one[0]), len(one)) for one in fleet]
    return [f"{kinds.count(kind)} of {kind[0]} TP={kind[1]} PP={kind[2]}" for kind in dict.fromkeys(kinds)]
