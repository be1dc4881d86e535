"""DistServe: prefill and decode on instances of their own, sized by goodput.

Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized LLM Serving" (OSDI 2024).

* High node affinity (its Algorithm 1): every instance shape is tried for each phase alone, in simulation, with a binary
  search for the highest rate that attains the SLO of that phase; each phase is replicated to the traffic, and any prefill
  instance may feed any decode instance. The paper has cards without end and takes the best shape a card for each phase;
  a cluster has an end, so here the leading shapes of both phases are weighed together, and the mix that carries most wins.
* Low node affinity (its Algorithm 2): a unit is a prefill and a decode instance with the same number of pipeline stages,
  cut so that matching stages stand on one node and KV never leaves it; units are tried whole, and replicated; the unit whose
  copies carry most on this cluster wins (with ``spare: idle``, the best a card, as in the paper).

Online (its section 4.3): FCFS; prefill batches packed to the saturation length; the decode side pulls KV when it has room;
the shortest queue gets the request. KV travels at 16 bit.

Left out: replanning when the workload drifts. DistServe assumes one GPU type; on a mixed cluster every type is planned by
itself and gets the traffic it sustains. Instances to spare are used, in proportion, unless ``spare`` says ``idle``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from baselines.shared.goodput import Goodput, Judge, Serve, decode_alone, server, solo_server
from baselines.shared.instances import Shape, groups, pack, place, replica, shapes
from thunderserve.cost.evaluate import prefill_s
from thunderserve.policy import Problem
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Transfer

Stages = tuple[tuple[int, ...], ...]

HIGH_AFFINITY_BYTES_PER_S = 20e9
"""Every card reaches every other at this rate or more: InfiniBand or NVLink, not Ethernet (about 200 Gbit/s, with room)."""
SATURATED = 0.9
"""Share of the best tokens a second at which a prefill batch counts as saturating the cards."""


class Unit(NamedTuple):
    """Instances that are replicated together."""

    prefill: tuple[Stages, ...]
    decode: tuple[Stages, ...]


class Fleet(NamedTuple):
    """What one GPU type serves with: its units, the rate they sustain, and what was weighed."""

    units: list[Unit]
    rate_per_s: float
    note: str


@dataclass(frozen=True)
class System:
    """Options of the ``distserve`` system."""

    affinity: Literal["auto", "high", "low"] = "auto"
    """Which placement algorithm; ``auto`` looks at the slowest link between two cards of the type."""
    transfer: Transfer = "after_prefill"
    """When KV leaves; DistServe's decode instances pull it when a prompt is finished (section 4.3)."""
    spare: Literal["use", "idle"] = "use"
    """Cards that the traffic does not need: replicate on, or leave them."""
    saturation_tokens: int | None = None
    """L_m, the length prefill batches are packed to; by default found from the step times."""
    max_sequences: int = 256
    requests: int = 1000
    """Requests simulated for each rate and shape tried. DistServe's own simulator takes 300; overload shows late in so few."""

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when no GPU type can hold the model twice, once for each phase."""
        fleets = []
        for gpu in dict.fromkeys(device.gpu for device in problem.cluster.devices):
            low = self.affinity == "low" or (self.affinity == "auto" and not _high_affinity(problem, gpu))
            fleet = self._low(problem, gpu) if low else self._high(problem, gpu)
            if fleet is not None:
                fleets.append((gpu, fleet))
        if not fleets:
            raise ValueError(
                f"distserve: no GPU type of {problem.cluster.name} holds a prefill and a decode copy of {problem.model.name}"
            )
        return self._assemble(problem, fleets)

    def _prefill(self, problem: Problem, stages: Stages) -> Replica:
        length = self.saturation_tokens or _saturation_tokens(problem, stages)
        batching = Batching(
            policy="saturation",
            saturation_tokens=length,
            max_batched_tokens=max(length, 2048),
            max_sequences=self.max_sequences,
        )
        return replica(problem.model, stages, Phase.PREFILL, batching)

    def _decode(self, problem: Problem, stages: Stages) -> Replica:
        batching = Batching(
            policy="continuous", max_sequences=self.max_sequences, max_batched_tokens=self.max_sequences
        )
        return replica(problem.model, stages, Phase.DECODE, batching)

    def _high(self, problem: Problem, gpu: str) -> Fleet | None:
        """Algorithm 1: the best shape of each phase alone, then as many of each as the traffic needs."""
        ttft = Judge(problem, self.requests, lambda met: met.ttft, outputs=1)
        tpot = Judge(problem, self.requests, lambda met: met.tpot)
        found = self._shapes(problem, gpu)
        if not found:
            return None
        packed = {shape: pack(problem.cluster, shape)[0] for shape in found}
        prefill = {
            shape: ttft.goodput(_prefill_alone(problem, self._prefill(problem, packed[shape]))) for shape in found
        }
        decode = {shape: tpot.goodput(decode_alone(problem, self._decode(problem, packed[shape]))) for shape in found}
        cut = None
        for first, second in product(_leading(prefill), _leading(decode)):
            each = prefill[first].rate_per_s(), decode[second].rate_per_s()
            other = _cut_high(problem, (first, second), each, self.spare)
            if other is not None and (cut is None or other.worth > cut[0].worth):
                cut = other, first, second
        if cut is None:
            return None
        note = f"high affinity; prefill {_weighed(prefill, cut[1])}; decode {_weighed(decode, cut[2])}"
        return Fleet([cut[0].unit], cut[0].rate_per_s, note)

    def _low(self, problem: Problem, gpu: str) -> Fleet | None:
        """Algorithm 2: units whose matching stages share a node, tried whole, replicated to the traffic."""
        judge = Judge(problem, self.requests, lambda met: met.ttft & met.tpot)
        tried: dict[tuple[Shape, Shape], tuple[Goodput, list[Unit]]] = {}
        for prefill, decode in product(self._shapes(problem, gpu), repeat=2):
            units = _cut_low(problem, prefill, decode) if prefill.pp == decode.pp else []
            if units:
                replicas = (self._prefill(problem, units[0].prefill[0]), self._decode(problem, units[0].decode[0]))
                goodput = judge.goodput(server(problem, replicas, (Flow(prefill=0, decode=1, share=1.0),)))
                tried[prefill, decode] = goodput, units
        if not tried:
            return None
        key = max(tried, key=lambda pair: _fleet_worth(tried[pair][0], len(tried[pair][1]), pair, self.spare))
        goodput, units = tried[key]
        needed = len(units) if self.spare == "use" else _times(problem.rate_per_s, goodput.rate_per_s(), len(units))
        note = (
            f"low affinity; unit prefill TP={key[0].tp} + decode TP={key[1].tp}, PP={key[0].pp}: "
            f"{goodput.goodput_per_s:.3g} requests/s; {len(tried)} units tried"
        )
        return Fleet(units[:needed], goodput.rate_per_s() * needed, note)

    def _shapes(self, problem: Problem, gpu: str) -> list[Shape]:
        batching = Batching(policy="continuous", max_sequences=self.max_sequences)
        return shapes(problem.cluster, problem.model, gpu, batching, problem.model.max_context)

    def _assemble(self, problem: Problem, fleets: list[tuple[str, Fleet]]) -> Plan:
        """Number the instances, and join each prefill with every decode instance of its unit."""
        replicas: list[Replica] = []
        flows: list[Flow] = []
        total = sum(fleet.rate_per_s for _, fleet in fleets)
        for _, fleet in fleets:
            for unit in fleet.units:
                first = len(replicas)
                replicas += [self._prefill(problem, stages) for stages in unit.prefill]
                replicas += [self._decode(problem, stages) for stages in unit.decode]
                share = fleet.rate_per_s / total / len(fleet.units) / (len(unit.prefill) * len(unit.decode))
                pairs = product(range(len(unit.prefill)), range(len(unit.decode)))
                flows += [Flow(prefill=first + p, decode=first + len(unit.prefill) + d, share=share) for p, d in pairs]
        return Plan(
            system="distserve",
            replicas=tuple(replicas),
            flows=tuple(flows),
            router="join_shortest_queue",
            transfer=self.transfer,
            notes={gpu: fleet.note for gpu, fleet in fleets},
        )


class Mix(NamedTuple):
    """So many instances of both phases, what they sustain, and what they are worth next to another mix."""

    unit: Unit
    rate_per_s: float
    worth: tuple[float, int]
    """More traffic carried first; at equal traffic, fewer cards."""


def _cut_high(
    problem: Problem, shapes_: tuple[Shape, Shape], each_per_s: tuple[float, float], spare: str
) -> Mix | None:
    """The mix of two shapes that carries the most traffic (``idle``: the offered traffic with the fewest cards)."""
    best: Mix | None = None
    total = sum(len(node) for node in groups(problem.cluster, shapes_[0].gpu))
    for prefills in range(1, total // shapes_[0].num_gpus + 1):
        decodes = (total - prefills * shapes_[0].num_gpus) // shapes_[1].num_gpus
        if spare == "idle":
            decodes = _times(problem.rate_per_s, each_per_s[1], decodes)
        worth = _worth(problem, shapes_, each_per_s, (prefills, decodes), spare)
        if decodes < 1 or (best is not None and worth <= best.worth):
            continue
        placed = _place_both(problem, shapes_, prefills, decodes)
        if placed is None:
            continue
        stages, decodes = placed
        worth = _worth(problem, shapes_, each_per_s, (prefills, decodes), spare)
        if best is None or worth > best.worth:
            rate = min(prefills * each_per_s[0], decodes * each_per_s[1])
            best = Mix(Unit(tuple(stages[:prefills]), tuple(stages[prefills:])), rate, worth)
    return best


def _worth(
    problem: Problem, shapes_: tuple[Shape, Shape], each_per_s: tuple[float, float], counts: tuple[int, int], spare: str
) -> tuple[float, int]:
    rate = min(count * each for count, each in zip(counts, each_per_s, strict=True))
    cards = sum(count * shape.num_gpus for count, shape in zip(counts, shapes_, strict=True))
    return (min(rate, problem.rate_per_s) if spare == "idle" else rate), -cards


def _place_both(
    problem: Problem, shapes_: tuple[Shape, Shape], prefills: int, decodes: int
) -> tuple[list[Stages], int] | None:
    """Cards for so many prefill and, if nodes do not divide, a few less decode instances."""
    for fewer in range(decodes, 0, -1):
        stages = place(problem.cluster, [shapes_[0]] * prefills + [shapes_[1]] * fewer)
        if stages is not None:
            return stages, fewer
    return None


def _cut_low(problem: Problem, prefill: Shape, decode: Shape) -> list[Unit]:
    """All units of the type: stage k of a prefill and of its decode instance are cut from one node.

    A pair is cut like one instance whose stages are as wide as both, and each stage is then divided.
    """
    both = Shape(prefill.gpu, prefill.tp + decode.tp, prefill.pp)
    return [
        Unit(
            prefill=(tuple(stage[: prefill.tp] for stage in stages),),
            decode=(tuple(stage[prefill.tp :] for stage in stages),),
        )
        for stages in pack(problem.cluster, both)
    ]


def _high_affinity(problem: Problem, gpu: str) -> bool:
    """Whether KV may cross any pair of cards of the type without being felt."""
    devices = [device for node in groups(problem.cluster, gpu) for device in node]
    slowest = min(
        (problem.cluster.link(a, b).bytes_per_s for a in devices for b in devices if a != b), default=float("inf")
    )
    return slowest >= HIGH_AFFINITY_BYTES_PER_S


def _saturation_tokens(problem: Problem, stages: Stages) -> int:
    """The shortest prompt at which the instance makes nine tenths of the tokens a second that any prompt reaches."""
    batching = Batching(policy="saturation", max_sequences=1)
    one = replica(problem.model, stages, Phase.PREFILL, batching)
    longest = max(problem.model.max_context, 512)
    table = problem.costs.step_table(
        problem.model, one, problem.cluster, max_tokens=longest, max_sequences=1, max_context=longest
    )
    lengths = np.arange(64, longest + 1, 64)
    # The slowest stage sets the pace of a full pipeline.
    rates = lengths / prefill_s(table, lengths).max(axis=0)
    return int(lengths[np.argmax(rates >= SATURATED * rates.max())])


def _prefill_alone(problem: Problem, prefill: Replica) -> Serve:
    """A prefill instance whose requests end with their first token (the judge cuts the outputs)."""
    return solo_server(problem, prefill.model_copy(update={"phase": Phase.BOTH}))


def _fleet_worth(goodput: Goodput, units: int, pair: tuple[Shape, Shape], spare: str) -> Goodput:
    """By the card as the paper does (``idle``), or by what all cards of the cluster carry together (``use``)."""
    if spare == "idle":
        return goodput.per_gpu(pair[0].num_gpus + pair[1].num_gpus)
    return Goodput(goodput.goodput_per_s * units, goodput.throughput_per_s * units)


LEADING = 6
"""Shapes of each phase, best goodput a card first, that are weighed against each other."""


def _leading(tried: dict[Shape, Goodput]) -> list[Shape]:
    return sorted(tried, key=lambda shape: tried[shape].per_gpu(shape.num_gpus), reverse=True)[:LEADING]


def _weighed(tried: dict[Shape, Goodput], best: Shape) -> str:
    rate = tried[best].per_gpu(best.num_gpus).goodput_per_s
    return f"TP={best.tp} PP={best.pp}, {rate:.3g} requests/s a card, of {len(tried)} shapes tried"


def _times(rate_per_s: float, each_per_s: float, most: int) -> int:
    """Copies that carry a rate, at least one and at most ``most``."""
    return min(most, max(1, int(np.ceil(rate_per_s / each_per_s)))) if each_per_s > 0 else most
