"""What the workers of a plan are told when they are started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thunderserve.engine.coordinator.dispatch import Way
from thunderserve.engine.messages import Role
from thunderserve.engine.options import WorkerOptions
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.kv import CODECS
from thunderserve.spec.plan import Flow, Plan, Replica

GIB = 1 << 30
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Wishes:
    """What a plan does not say, the same for all workers. Refuses, with a SpecError, what nobody knows."""

    dtype: str = "float32"
    device: str = "cpu"
    kv_bytes: int = GIB
    max_context: int = 0
    """0: the model's own."""
    codec: str = ""
    """Of all flows; empty: the plan's."""
    way: Way | None = None
    """What all keys and values travel over, imitated; none: the links between the nodes of the plan's cluster, if it has one."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SpecError("no such dtype", value=self.dtype, remedy=nearest(self.dtype, DTYPES))
        if self.device not in DEVICES:
            raise SpecError("no such device", value=self.device, remedy=nearest(self.device, DEVICES))
        if self.codec and self.codec not in CODECS:
            raise SpecError("no such codec", value=self.codec, remedy=nearest(self.codec, CODECS))


def check(plan: Plan, model: str = "") -> None:
    """Hold a plan against what the engine can do today: one device a replica, and the codecs that there are.

    Args:
        plan: to be served.
        model: folder of the checkpoint, whose layers are counted; a name of a hub is not looked up.

    Raises:
        SpecError: naming the replica or the flow.
    """
    layers = _layers(Path(model)) if model else None
    for index, replica in enumerate(plan.replicas):
        key = f"replicas[{index}]"
        if len(replica.devices) > 1:
            raise SpecError(
                f"replica {index} has {replica.describe()}; the engine serves a replica on one device",
                key=key,
                remedy="plan with TP=1 and PP=1, or judge this plan with 'harness simulate'",
            )
        planned = sum(stage.num_layers for stage in replica.stages)
        if layers is not None and planned != layers:
            raise SpecError(
                f"replica {index} holds {planned} layers, but the model has {layers}",
                key=key,
                remedy="plan for this model",
            )
    for index, flow in enumerate(plan.flows):
        if flow.codec.name not in CODECS:
            raise SpecError(
                "no such codec",
                key=f"flows[{index}].codec",
                value=flow.codec.name,
                remedy=f"known: {', '.join(CODECS)}",
            )


def role_of(replica: Replica) -> Role:
    """How its worker forms batches: the limits that the simulator gives it."""
    batching = replica.batching
    return Role(replica.phase.value, batching.policy, batching.max_sequences, batching.step_tokens)


def flows_of(plan: Plan, codec: str = "") -> tuple[Flow, ...]:
    """The flows of a plan, all with ``codec`` where one is given."""
    if not codec:
        return plan.flows
    return tuple(flow.model_copy(update={"codec": CODECS[codec]}) for flow in plan.flows)


def way_of(plan: Plan, cluster: Cluster | None, source: int, target: int) -> Way:
    """What keys and values travel over from replica ``source`` to ``target``: the link between their nodes, imitated.

    On one node they travel over the network of the machine, as it is.
    """
    if cluster is None:
        return Way()
    first, second = plan.replicas[source].devices[0], plan.replicas[target].devices[0]
    if cluster.devices[first].node == cluster.devices[second].node:
        return Way()
    link = cluster.link(first, second)
    return Way(link.bytes_per_s, link.latency_s)


def share_cores(devices: Sequence[int], cores: Sequence[int]) -> list[tuple[int, ...]]:
    """Cores of each replica, in proportion to its devices and none twice; with fewer cores than devices, one each in turn.

    Args:
        devices: how many each replica has.
        cores: numbers of those that may be used.
    """
    if len(cores) < sum(devices):
        return [(cores[index % len(cores)],) for index in range(len(devices))]
    each, found, begun = len(cores) // sum(devices), [], 0
    for count in devices:
        found.append(tuple(cores[begun : begun + each * count]))
        begun += each * count
    return found


def options_of(
    plan: Plan, model: str, wishes: Wishes, coordinator: tuple[str, int], cores: Sequence[int]
) -> list[WorkerOptions]:
    """One worker a replica.

    Args:
        plan: checked.
        model: a folder, or a name of a hub.
        wishes: for all.
        coordinator: where they say hello.
        cores: of this machine, for all of them; used where the device is the CPU.
    """
    shares = share_cores([len(replica.devices) for replica in plan.replicas], cores)
    on_cpu = wishes.device == "cpu"
    return [
        WorkerOptions(
            replica=index,
            coordinator=coordinator,
            model=model,
            role=role_of(replica),
            dtype=wishes.dtype,
            device="cpu" if on_cpu else f"{wishes.device}:{replica.devices[0]}",
            threads=len(share) if on_cpu else 1,
            cores=share if on_cpu else (),
            block_tokens=replica.batching.block_tokens,
            kv_bytes=wishes.kv_bytes,
            max_context=wishes.max_context,
            transfer=plan.transfer,
        )
        for index, (replica, share) in enumerate(zip(plan.replicas, shares, strict=True))
    ]


def _layers(folder: Path) -> int | None:
    """Of a checkpoint, as its configuration says."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = config.get("text_config", config).get("num_hidden_layers")
    return found if isinstance(found, int) else None
