"""vLLM's instances for a plan, behind our coordinator: what each attendant is told."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thunderserve.engine.launch.launch import Staff
from thunderserve.engine.launch.plan import share_cores
from thunderserve.engine.vllm import arguments
from thunderserve.engine.vllm.arguments import Instance
from thunderserve.engine.vllm.options import AttendantOptions
from thunderserve.spec.errors import SpecError
from thunderserve.spec.plan import Plan, Replica

MODULE = "thunderserve.engine.vllm"
VARIABLE = "THUNDERSERVE_VLLM_PYTHON"
PLACE = Path(".venv-vllm/bin/python")


def interpreter(given: str | None = None) -> str:
    """The Python that has vLLM: as given, else of the environment variable, else of ``.venv-vllm`` in the working folder.

    Raises:
        SpecError: there is none.
    """
    wanted = given or os.environ.get(VARIABLE) or str(PLACE)
    found = shutil.which(wanted)
    if found is None:
        raise SpecError(
            "vLLM's own environment is not there", value=wanted,
            remedy=f"make it with 'make vllm-env', or name its Python with --vllm-python or ${VARIABLE}",
        )  # fmt: skip
    return str(Path(found).absolute())


@dataclass(frozen=True)
class Fleet:
    """The instances of a plan on this machine, or such as run elsewhere.

    Args:
        plan: to be served.
        instance: what all instances have in common.
        python: of vLLM's environment.
        urls: of instances that run already, in the plan's order; empty: all are started here.
    """

    plan: Plan
    instance: Instance
    python: str = ""
    urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        arguments.check(self.plan)
        if self.urls and len(self.urls) != len(self.plan.replicas):
            raise SpecError(
                f"{len(self.urls)} instances are named, but the plan has {len(self.plan.replicas)} replicas",
                key="--attach", remedy="give one URL a replica, in the plan's order",
            )  # fmt: skip

    def staff(self) -> Staff:
        """For a ``Launch``."""
        return _attached(self) if self.urls else _started(self)


def _attached(fleet: Fleet) -> Staff:
    def staff(coordinator: tuple[str, int], _: Sequence[int]) -> Sequence[AttendantOptions]:
        return [
            AttendantOptions(number, coordinator, fleet.instance.name, url, connector=fleet.instance.connector)
            for number, url in enumerate(fleet.urls)
        ]

    return staff


def _started(fleet: Fleet) -> Staff:
    ports = free_ports(len(fleet.plan.replicas))

    def staff(coordinator: tuple[str, int], cores: Sequence[int]) -> Sequence[AttendantOptions]:
        shares = share_cores([len(replica.devices) for replica in fleet.plan.replicas], cores)
        return [
            _options(fleet, number, replica, coordinator, port, share)
            for number, (replica, port, share) in enumerate(zip(fleet.plan.replicas, ports, shares, strict=True))
        ]

    return staff


def _options(
    fleet: Fleet, number: int, replica: Replica, coordinator: tuple[str, int], port: int, cores: tuple[int, ...]
) -> AttendantOptions:
    host, instance = "127.0.0.1", fleet.instance
    line = arguments.arguments(replica, instance, fleet.plan, host=host, port=port)
    on_cpu = instance.device == "cpu"
    return AttendantOptions(
        number, coordinator, instance.name, f"http://{host}:{port}",
        command=(fleet.python, *line), cores=cores if on_cpu else (), connector=instance.connector,
        environment=dict(arguments.environment(replica, instance, threads=max(1, len(cores)))),
    )  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. vLLM takes none for "any"."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def with_blocks(instance: Instance, blocks: int, block_tokens: int, bytes_per_token: int) -> Instance:
    """``instance`` with just so many KV blocks of the plan's size: what the simulator gives it."""
    tokens = blocks * block_tokens
    size = arguments.block_tokens_of(block_tokens, instance)
    extra = (*instance.extra, "--num-gpu-blocks-override", str(max(1, tokens // size)))
    return replace(instance, extra=extra, kv_bytes=tokens * bytes_per_token)
