"""What to expect of a plan: a full simulation on requests that no planner has seen, and what it comes down to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.plan.case import Case
from harness.plan.fits import refuse_what_cannot_run
from harness.statistics.binomial import share_interval
from harness.statistics.correlation import design_effect
from harness.statistics.value import Value
from thunderserve.backend import Deployment
from thunderserve.cost.network import Transfer, kv_transfer
from thunderserve.serving.pool import Rows
from thunderserve.serving.records import Met, Records, meets
from thunderserve.simulator.backend import fleet_of, records_of
from thunderserve.simulator.fleet import Fleet
from thunderserve.spec.plan import Plan
from thunderserve.spec.trace import Trace

LIMITS = ("joint", "ttft", "tpot", "e2e")
NodePair = tuple[str, str]


@dataclass(frozen=True)
class ReplicaLoad:
    """What one replica bore, between the first arrival and the last token."""

    busy: float
    """Share of the time in which a batch was in flight."""
    batch: float
    """Sequences in flight, on average while busy."""
    kv: float
    """Share of its KV blocks held, at the fullest moment."""
    prefilled: float
    """Share of all requests that it prefilled."""
    decoded: float


@dataclass(frozen=True)
class LinkLoad:
    """What the path from one node to another bore."""

    busy: float
    """Share of the time in which KV crossed it."""
    bytes_per_s: float
    capacity_bytes_per_s: float


@dataclass(frozen=True)
class Verdict:
    """A plan held against its SLO."""

    case: Case
    plan: Plan
    trace: Trace
    records: Records
    met: Met
    replicas: tuple[ReplicaLoad, ...]
    links: dict[NodePair, LinkLoad]

    def attainment(self, limit: str = "joint") -> Value:
        """Share of the requests within ``joint`` (all limits), ``ttft``, ``tpot`` or ``e2e``, with its 95 % interval."""
        good: NDArray[np.bool_] = getattr(self.met, limit)
        return Value(float(good.mean()), share_interval(int(good.sum()), len(good), effect=design_effect(good)), None)


class Court:
    """Judges one plan at any pace; the replicas are laid out once. Raises SpecError for a plan that cannot run."""

    def __init__(self, case: Case, plan: Plan) -> None:
        refuse_what_cannot_run(plan, case.cluster, case.model)
        self.case, self.plan = case, plan
        self.fleet: Fleet = fleet_of(Deployment(plan, case.cluster, case.model), case.costs)

    def records(self, trace: Trace) -> Records:
        """One record a request."""
        return records_of(trace, self.fleet.run(trace.arrival_s, trace.prompt_tokens, trace.output_tokens))

    def met(self, trace: Trace, records: Records) -> Met:
        """Which requests met what."""
        return meets(records, self.case.setting.slo.limits(self.case.alone(trace)))

    def verdict(self, trace: Trace) -> Verdict:
        """Serve ``trace`` and measure everything."""
        outcome = self.fleet.run(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, series=True)
        records = records_of(trace, outcome)
        window_s = max(float(np.nanmax(records.finish_s, initial=0.0)), 1e-9)
        return Verdict(
            case=self.case,
            plan=self.plan,
            trace=trace,
            records=records,
            met=self.met(trace, records),
            replicas=_replica_loads(len(self.plan.replicas), outcome.flights, outcome.replicas, records, window_s),
            links=link_loads(self.case, self.plan, records, window_s),
        )


def judge(case: Case, plan: Plan, *, requests: int, seed: int) -> Verdict:
    """Judge ``plan`` on ``requests`` requests of ``seed``. Raises SpecError for a plan that cannot run."""
    court = Court(case, plan)
    return court.verdict(case.trace(requests, seed))


def at_pace(trace: Trace, factor: float) -> Trace:
    """The same requests, arriving ``factor`` times as fast."""
    return replace(trace, arrival_s=trace.arrival_s / factor)


def _replica_loads(
    count: int, flights: Rows, replicas: Rows, records: Records, window_s: float
) -> tuple[ReplicaLoad, ...]:
    found = []
    for number in range(count):
        own = flights[flights["replica"] == number]
        flown_s = float((own["end_s"] - own["start_s"]).sum())
        busy_s = _covered_s(own["start_s"], own["end_s"])
        sequences = np.maximum(own["running"], 1)
        batch = float(((own["end_s"] - own["start_s"]) * sequences).sum() / flown_s) if flown_s else 0.0
        blocks = max(int(replicas["blocks"][number]), 1)
        found.append(
            ReplicaLoad(
                busy=busy_s / window_s,
                batch=batch,
                kv=float(own["blocks"].max(initial=0)) / blocks,
                prefilled=float((records.prefill_replica == number).mean()),
                decoded=float((records.decode_replica == number).mean()),
            )
        )
    return tuple(found)


def _covered_s(start_s: NDArray[np.float64], end_s: NDArray[np.float64]) -> float:
    """Length of the union of intervals."""
    order = np.argsort(start_s, kind="stable")
    begins, ends = start_s[order], np.maximum.accumulate(end_s[order])
    if not len(begins):
        return 0.0
    earlier = np.concatenate([[-np.inf], ends[:-1]])
    return float((ends - np.maximum(begins, earlier)).clip(min=0).sum())


def link_loads(case: Case, plan: Plan, records: Records, window_s: float) -> dict[NodePair, LinkLoad]:
    """Every path between nodes that carried KV: each transfer holds its links for ``alpha + tokens * s_per_token``."""
    busy_s: dict[NodePair, float] = defaultdict(float)
    moved_bytes: dict[NodePair, float] = defaultdict(float)
    for (prefill, decode), transfer in transfers(case, plan).items():
        own = (records.prefill_replica == prefill) & (records.decode_replica == decode)
        own &= np.isfinite(records.transfer_end_s)
        tokens = float(records.prompt_tokens[own].sum())
        for link, per_token in zip(transfer.links, transfer.link_s_per_token, strict=True):
            if "/" not in link[0]:
                busy_s[link] += own.sum() * transfer.alpha_s + tokens * transfer.wire_s_per_token
                moved_bytes[link] += tokens * per_token * _capacity(case, link)
    return {
        link: LinkLoad(busy_s[link] / window_s, moved_bytes[link] / window_s, _capacity(case, link)) for link in busy_s
    }


def transfers(case: Case, plan: Plan) -> dict[tuple[int, int], Transfer]:
    """The KV transfer of every flow that leaves its replica."""
    return {
        (flow.prefill, flow.decode): kv_transfer(
            case.model,
            plan.replicas[flow.prefill],
            plan.replicas[flow.decode],
            case.cluster,
            flow.codec,
            case.costs.codec_speed(flow.codec),
        )
        for flow in plan.flows
        if flow.prefill != flow.decode
    }


def _capacity(case: Case, link: NodePair) -> float:
    first = {device.node: device.id for device in reversed(case.cluster.devices)}
    return case.cluster.link(first[link[0]], first[link[1]]).bytes_per_s
