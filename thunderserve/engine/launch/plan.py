"""What the workers of a plan are told when they are started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thunderserve.engine.coordinator.dispatch import Way
from thunderserve.engine.messages import Role
from thunderserve.engine.options import Rank, WorkerOptions
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
    steps: Path | None = None
    """Folder for a file of its steps from each worker, see ``steps_file``; none: they are not written down."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SpecError("no such dtype", value=self.dtype, remedy=nearest(self.dtype, DTYPES))
        if self.device not in DEVICES:
            raise SpecError("no such device", value=self.device, remedy=nearest(self.device, DEVICES))
        if self.codec and self.codec not in CODECS:
            raise SpecError("no such codec", value=self.codec, remedy=nearest(self.codec, CODECS))


def check(plan: Plan, model: str = "") -> None:
    """Hold a plan against the model, and against the codecs that there are.

    Args:
        plan: to be served.
        model: folder of the checkpoint, whose layers and heads are counted; a name of a hub is not looked up.

    Raises:
        SpecError: naming the replica or the flow.
    """
    layers, heads = _counts(Path(model)) if model else (None, None)
    for index, replica in enumerate(plan.replicas):
        key = f"replicas[{index}]"
        for number, stage in enumerate(replica.stages):
            if heads is not None and heads % stage.tp:
                raise SpecError(
                    f"replica {index} has {replica.describe()}, but {stage.tp} does not divide the model's {heads} KV heads",
                    key=f"{key}.stages[{number}]",
                    remedy="plan with another tensor-parallel degree, or judge this plan with 'harness simulate'",
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
    count = sum(len(replica.devices) for replica in plan.replicas)
    shares = iter(share_cores([1] * count, cores))
    found = []
    for index, replica in enumerate(plan.replicas):
        ranks = ranks_of(replica, wishes.device, [next(shares) for _ in replica.devices])
        found.append(
            WorkerOptions(
                replica=index,
                coordinator=coordinator,
                model=model,
                role=role_of(replica),
                dtype=wishes.dtype,
                device=ranks[0].device,
                threads=ranks[0].threads,
                cores=ranks[0].cores,
                block_tokens=replica.batching.block_tokens,
                kv_bytes=wishes.kv_bytes,
                max_context=wishes.max_context,
                transfer=plan.transfer,
                steps=str(steps_file(wishes.steps, index)) if wishes.steps is not None else "",
                ranks=ranks if len(ranks) > 1 else (),
            )
        )
    return found


def steps_file(folder: Path, replica: int) -> Path:
    """Where a worker writes its steps down."""
    return folder / f"steps-{replica}.jsonl"


def ranks_of(replica: Replica, device: str, shares: Sequence[tuple[int, ...]]) -> tuple[Rank, ...]:
    """One rank a device, stage by stage; ``shares`` has the cores of each, used where ``device`` is the CPU."""
    found: list[Rank] = []
    for first, stage in zip(replica.first_layers, replica.stages, strict=True):
        for place, number in enumerate(stage.devices):
            cores = shares[len(found)] if device == "cpu" else ()
            name = device if device == "cpu" else f"{device}:{number}"
            found.append(Rank(first, first + stage.num_layers, place, stage.tp, name, max(1, len(cores)), cores))
    return tuple(found)


def _counts(folder: Path) -> tuple[int | None, int | None]:
    """Layers and KV heads of a checkpoint, as its configuration says."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, None
    text = config.get("text_config", config)
    found = text.get("num_hidden_layers"), text.get("num_key_value_heads", text.get("num_attention_heads"))
    layers, heads = (count if isinstance(count, int) else None for count in found)
    return layers, heads
