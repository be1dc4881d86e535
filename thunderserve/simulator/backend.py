"""The ``simulated`` backend: nouns to arrays, arrays to records."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thunderserve.backend import Deployment
from thunderserve.cost.codec import SpeedOf
from thunderserve.cost.memory import check_memory, kv_blocks
from thunderserve.cost.network import kv_transfer
from thunderserve.cost.source import CostSource
from thunderserve.serving.pool import NONE, Limits
from thunderserve.serving.records import Records, ReplicaSeries, Served
from thunderserve.serving.router import Router
from thunderserve.simulator.fleet import Fleet, Outcome, ReplicaSetup, RouteSetup
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Flow, Plan, Replica
from thunderserve.spec.trace import Trace

ROUTERS = {
    "flows": Router.SHARES,
    "join_shortest_queue": Router.SHORTEST_QUEUE,
    "fewest_tokens": Router.FEWEST_TOKENS,
    "least_kv": Router.LEAST_KV,
}
KEPT = 64
"""Fleets kept laid out, so that a binary search over rates builds its replicas once."""


def limits_of(model: ModelSpec, replica: Replica, cluster: Cluster) -> Limits:
    """What the batcher of ``replica`` may do. Raises ValueError, naming the card, if the model does not fit."""
    check_memory(model, replica, cluster)
    batching = replica.batching
    blocks = kv_blocks(model, replica, cluster)
    return Limits(
        chunked=batching.policy == "chunked",
        stages=len(replica.stages),
        block_tokens=batching.block_tokens,
        blocks=blocks,
        watermark_blocks=int(batching.watermark * blocks) if batching.policy == "prefill_first" else 0,
        max_sequences=batching.max_sequences,
        max_batched_tokens=batching.step_tokens,
    )


def replica_setup(model: ModelSpec, replica: Replica, cluster: Cluster, costs: CostSource) -> ReplicaSetup:
    """Step times and limits of one replica."""
    limits = limits_of(model, replica, cluster)
    table = costs.step_table(
        model,
        replica,
        cluster,
        max_tokens=max(model.max_context, limits.max_batched_tokens),
        max_sequences=limits.max_sequences,
        max_context=model.max_context,
    )
    return ReplicaSetup(table, limits)


def fleet_of(deployment: Deployment, costs: CostSource) -> Fleet:
    """Lay out a deployment. Raises ValueError, in words, for a plan that cannot run."""
    plan, cluster, model = deployment.plan, deployment.cluster, deployment.model
    plan.check(cluster, model)
    setups: dict[str, ReplicaSetup] = {}
    replicas = []
    for replica in plan.replicas:
        # Replicas of equal cards, links and batching share one table; the key holds all a table can depend on.
        key = _likeness(replica, cluster)
        if key not in setups:
            setups[key] = replica_setup(model, replica, cluster, costs)
        replicas.append(setups[key])
    links: dict[tuple[str, str], int] = {}
    routes = [_route(flow, deployment, links, costs.codec_speed) for flow in plan.flows]
    return Fleet(replicas, routes, ROUTERS[plan.router], len(links))


def _likeness(replica: Replica, cluster: Cluster) -> str:
    devices = replica.devices
    types = [cluster.devices[device].gpu for device in devices]
    links = [cluster.link(a, b).model_dump_json() for a in devices for b in devices if a != b]
    stages = [(stage.tp, stage.num_layers) for stage in replica.stages]
    return repr((types, links, stages, replica.phase, replica.batching.model_dump_json()))


def _route(flow: Flow, deployment: Deployment, links: dict[tuple[str, str], int], speed: SpeedOf) -> RouteSetup:
    """A flow with its links numbered; ``links`` grows by those that are new."""
    if flow.prefill == flow.decode:
        return RouteSetup(flow.prefill, flow.decode, flow.share)
    ends = (deployment.plan.replicas[flow.prefill], deployment.plan.replicas[flow.decode])
    transfer = kv_transfer(deployment.model, *ends, deployment.cluster, flow.codec, speed(flow.codec))
    return RouteSetup(
        prefill=flow.prefill,
        decode=flow.decode,
        share=flow.share,
        links=tuple(links.setdefault(link, len(links)) for link in transfer.links),
        alpha_s=transfer.alpha_s,
        s_per_token=transfer.wire_s_per_token,
        encode_s_per_token=transfer.encode_s_per_token,
        decode_s_per_token=transfer.decode_s_per_token,
        layers=deployment.model.num_layers if deployment.plan.transfer == "layerwise" else 0,
    )


def records_of(trace: Trace, outcome: Outcome) -> Records:
    """The columns of what a fleet did with ``trace``."""
    rows, routes = outcome.requests, outcome.routes
    served = rows["route"] != NONE
    route = np.where(served, rows["route"], 0)
    return Records(
        arrival_s=trace.arrival_s,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        prefill_start_s=rows["prefill_start_s"].copy(),
        first_token_s=rows["first_token_s"].copy(),
        transfer_start_s=rows["transfer_start_s"].copy(),
        transfer_end_s=rows["transfer_end_s"].copy(),
        finish_s=rows["finish_s"].copy(),
        prefill_replica=np.where(served, routes["prefill"][route], -1).astype(np.int32),
        decode_replica=np.where(served, routes["decode"][route], -1).astype(np.int32),
        preemptions=rows["preemptions"].astype(np.int32),
        status=rows["status"].astype(np.int8),
    )


def _series(outcome: Outcome, replicas: int) -> tuple[ReplicaSeries, ...]:
    flights = outcome.flights
    by_replica = [flights[flights["replica"] == index] for index in range(replicas)]
    return tuple(
        ReplicaSeries(
            time_s=rows["end_s"].copy(),
            running=rows["running"].astype(np.int64),
            waiting=rows["waiting"].astype(np.int64),
            kv_blocks_used=rows["blocks"].astype(np.int64),
            step_tokens=(rows["steps"] * rows["decodes"] + rows["prefill_tokens"]).astype(np.int64),
        )
        for rows in by_replica
    )


def _counters(outcome: Outcome) -> dict[str, float]:
    """Steps of batches, flights (a run of unchanged decode steps counts once), preemptions and KV transfers."""
    return {
        "steps": float(outcome.replicas["steps"].sum()),
        "flights": float(outcome.replicas["flights"].sum()),
        "preemptions": float(outcome.requests["preemptions"].sum()),
        "transfers": float(np.isfinite(outcome.requests["transfer_end_s"]).sum()),
    }


@dataclass
class Simulated:
    """A ``Backend`` that advances time instead of waiting for it."""

    costs: CostSource
    name: str = "simulated"
    _fleets: dict[int, tuple[Deployment, Plan, Fleet]] = field(default_factory=dict)

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        """See ``Backend``. The same plan, trace and costs give the same bytes."""
        outcome = self._fleet(deployment).run(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, series=series)
        return Served(
            records=records_of(trace, outcome),
            series=_series(outcome, len(deployment.plan.replicas)) if series else (),
            counters=_counters(outcome),
        )

    def _fleet(self, deployment: Deployment) -> Fleet:
        """The laid-out deployment; kept while the very same objects come again."""
        kept = self._fleets.get(id(deployment.plan))
        if kept is not None and kept[0] == deployment:
            return kept[2]
        fleet = fleet_of(deployment, self.costs)
        while len(self._fleets) >= KEPT:
            self._fleets.pop(next(iter(self._fleets)))
        self._fleets[id(deployment.plan)] = (deployment, deployment.plan, fleet)
        return fleet
