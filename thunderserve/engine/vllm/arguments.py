"""The command line and the environment of one vLLM instance. Pure: nothing is started here, and vLLM is not imported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thunderserve.engine.vllm.settings import Settings
from thunderserve.spec.errors import SpecError
from thunderserve.spec.plan import Plan, Replica

MODULE = "vllm.entrypoints.openai.api_server"
CPU_BLOCK = 32
"""vLLM's CPU backend takes multiples of this many tokens a block."""
OWN = {
    "kv_connector": "ThunderServeConnector", "kv_connector_module_path": "thunderserve.engine.vllm.connector",
    "kv_role": "kv_both", "kv_load_failure_policy": "recompute",
}  # fmt: skip
"""Every instance can send and receive, so that a flip is a matter of routing."""
CONNECTORS = ("thunderserve", "example", "nixl")
"""Ours; vLLM's own over files; vLLM's own over NIXL."""


@dataclass(frozen=True)
class Instance:
    """What all instances of a deployment have in common, and a plan does not say."""

    model: str
    """A folder, or a name of a hub."""
    name: str
    """As clients give it."""
    dtype: str = "float32"
    device: str = "cpu"
    max_context: int = 0
    """0: the model's own."""
    kv_bytes: int = 1 << 30
    """Of each instance on a CPU. On GPUs vLLM takes the share ``memory_share``."""
    memory_share: float = 0.9
    reuse_prefixes: bool = False
    """vLLM's prefix cache. It would keep what came over the wire in few bits, and serve it to others."""
    connector: str = "thunderserve"
    settings: Settings = field(default_factory=Settings)
    folder: str = ""
    """Of vLLM's own connector over files; all instances see it."""
    extra: tuple[str, ...] = ()
    """Further arguments, as they are."""


def connector_config(instance: Instance) -> dict[str, Any]:
    """``--kv-transfer-config``. Raises SpecError for a connector that nobody knows."""
    if instance.connector == "thunderserve":
        return OWN | {"kv_connector_extra_config": instance.settings.written()}
    if instance.connector == "example":
        extra = {"shared_storage_path": instance.folder}
        return {"kv_connector": "ExampleConnector", "kv_role": "kv_both", "kv_connector_extra_config": extra}
    if instance.connector == "nixl":
        return {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    raise SpecError("no such connector", value=instance.connector, remedy=f"known: {', '.join(CONNECTORS)}")


def check(plan: Plan) -> None:
    """Raise SpecError for a replica that vLLM cannot serve, naming it."""
    for index, replica in enumerate(plan.replicas):
        degrees = [len(stage.devices) for stage in replica.stages]
        if len(set(degrees)) > 1:
            raise SpecError(
                f"replica {index} has stages of {', '.join(map(str, degrees))} devices; a vLLM instance has one TP degree",
                key=f"replicas[{index}]", remedy="give all its stages as many devices; harness plan --option degrees=alike does",
            )  # fmt: skip


def arguments(replica: Replica, instance: Instance, plan: Plan, *, host: str, port: int, nodes: int = 1) -> list[str]:
    """What follows the interpreter.

    Args:
        replica: its parallel degrees, block size and number of sequences.
        instance: what is the same for all.
        plan: whose largest step every instance takes: a decode instance that is flipped prefills as fast as the others.
        host, port: where it listens.
        nodes: that it spans; more than one needs Ray.
    """
    batching = replica.batching
    step = max(batching.max_sequences, *(one.batching.step_tokens for one in plan.replicas))
    blocks = block_tokens_of(batching.block_tokens, instance)
    found = [
        "-m", MODULE, "--model", instance.model, "--served-model-name", instance.name, "--host", host, "--port", str(port),
        "--dtype", instance.dtype, "--max-num-seqs", str(batching.max_sequences), "--max-num-batched-tokens", str(step),
        "--block-size", str(blocks), "--tensor-parallel-size", str(len(replica.stages[0].devices)),
        "--pipeline-parallel-size", str(len(replica.stages)),
        "--enable-prefix-caching" if instance.reuse_prefixes else "--no-enable-prefix-caching",
    ]  # fmt: skip
    if instance.max_context:
        found += ["--max-model-len", str(instance.max_context)]
    if instance.device == "cpu":
        found += ["--enforce-eager"]
    else:
        found += ["--gpu-memory-utilization", f"{instance.memory_share:g}"]
    if nodes > 1:
        found += ["--distributed-executor-backend", "ray"]
    if any(one.phase.value != "both" for one in plan.replicas):
        found += ["--kv-transfer-config", json.dumps(connector_config(instance), separators=(",", ":"))]
    return [*found, *instance.extra]


def environment(
    replica: Replica, instance: Instance, *, threads: int = 1, cards: Sequence[int] | None = None
) -> Mapping[str, str]:
    """Variables beside those of the caller. ``cards``: numbered as its node does; by default as the plan does."""
    found = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1" if instance.model[:1] == "/" else "0",
    }
    if len(replica.stages) > 1:
        found["VLLM_PP_LAYER_PARTITION"] = ",".join(str(stage.num_layers) for stage in replica.stages)
    if instance.device == "cpu":
        space_gib = -(-instance.kv_bytes // (1 << 30))
        found |= {
            "VLLM_CPU_KVCACHE_SPACE": str(space_gib), "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)
        }  # fmt: skip
    else:
        found["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # numbers as nvidia-smi and a cluster's file have them
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, replica.devices if cards is None else cards))
    return found


def block_tokens_of(wanted: int, instance: Instance) -> int:
    """Tokens of a block: the least that the backend takes and that are not fewer than the plan's."""
    return -(-wanted // CPU_BLOCK) * CPU_BLOCK if instance.device == "cpu" else wanted
