"""What whoever watches is told: health, and samples for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from thunderserve.engine.coordinator.history import History
from thunderserve.engine.coordinator.peer import Peer
from thunderserve.engine.coordinator.routing import Routing
from thunderserve.engine.messages import Beat

Sample: TypeAlias = tuple[str, str, str, Mapping[str, str], float]
"""Name, help, type, labels, value."""


class Gauge(NamedTuple):
    """One sample a worker, of its last beat."""

    name: str
    help: str
    kind: str
    value: Callable[[Beat], float]


OF_BEATS = (
    Gauge("waiting_requests", "Requests that wait for their prefill.", "gauge", lambda beat: beat.waiting),
    Gauge("running_requests", "Requests in the batch.", "gauge", lambda beat: beat.running),
    Gauge("kv_blocks_used", "KV blocks that are held.", "gauge", lambda beat: beat.blocks_used),
    Gauge("kv_blocks", "KV blocks in all.", "gauge", lambda beat: beat.blocks),
    Gauge("resident_bytes", "Memory of the process.", "gauge", lambda beat: beat.resident_bytes),
    Gauge("steps_total", "Steps.", "counter", lambda beat: beat.steps),
    Gauge("prompt_tokens_total", "Tokens of prompts that were computed.", "counter", lambda beat: beat.prompt_tokens),
    Gauge("reused_tokens_total", "Tokens of prompts found in the cache.", "counter", lambda beat: beat.reused_tokens),
    Gauge("output_tokens_total", "Tokens that were generated.", "counter", lambda beat: beat.output_tokens),
    Gauge("preemptions_total", "Requests that lost their blocks to others.", "counter", lambda beat: beat.preemptions),
    Gauge("busy_seconds_total", "Seconds spent in steps.", "counter", lambda beat: beat.busy_s),
    Gauge("sent_bytes_total", "Keys and values sent.", "counter", lambda beat: beat.sent_bytes),
    Gauge("received_bytes_total", "Keys and values received.", "counter", lambda beat: beat.received_bytes),
)


def health(routing: Routing, peers: Mapping[int, Peer]) -> Mapping[str, Any]:
    """``ok``: all workers are there; ``degraded``: enough to serve; ``down``: not even that. And each worker."""
    count = len(routing.roles)
    status = "ok" if len(peers) == count and routing.open else "degraded" if routing.open else "down"
    return {"status": status, "workers": [_worker(routing, peers.get(replica), replica) for replica in range(count)]}


def samples(routing: Routing, peers: Mapping[int, Peer], history: History, live: int, waiting: int) -> Iterator[Sample]:
    """Counters of workers begin anew when a worker does, as Prometheus expects. Samples of one name follow each other."""
    labels = [{"replica": str(index), "phase": role.phase} for index, role in enumerate(routing.roles)]
    present = [(peer, labels[replica]) for replica, peer in sorted(peers.items())]
    name = "thunderserve_worker_{}".format
    for replica, label in enumerate(labels):
        yield name("alive"), "Whether the worker is there.", "gauge", label, float(replica in peers)
    for peer, label in present:
        pending, _ = routing.pending(peer.replica)
        yield name("pending_requests"), "Requests given to it and not finished.", "gauge", label, float(pending)
    for gauge in OF_BEATS:
        for peer, label in present:
            if peer.beat is not None:
                yield name(gauge.name), gauge.help, gauge.kind, label, float(gauge.value(peer.beat))
    for peer, label in present:
        yield (
            name("busy_share"),
            "Share of the time between two beats spent in steps.",
            "gauge",
            label,
            peer.rate("busy_s"),
        )
    yield "thunderserve_requests_live", "Requests that have not ended.", "gauge", {}, float(live)
    yield "thunderserve_requests_stranded", "Requests for which there is no worker now.", "gauge", {}, float(waiting)
    for outcome, ended in sorted(history.outcomes.items()):
        yield "thunderserve_requests_total", "Requests by outcome.", "counter", {"outcome": outcome}, float(ended)
    yield "thunderserve_reruns_total", "Attempts beyond the first of a request.", "counter", {}, float(history.reruns)
    yield "thunderserve_told_tokens_total", "Tokens told to clients.", "counter", {}, float(history.told_tokens)


def _worker(routing: Routing, peer: Peer | None, replica: int) -> dict[str, Any]:
    found: dict[str, Any] = {"replica": replica, "phase": routing.roles[replica].phase, "alive": peer is not None}
    if peer is not None:
        found |= {"pid": peer.hello.pid, "device": peer.hello.device}
    return found
