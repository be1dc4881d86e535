"""What every form of a deployment is made from: the instances of a plan, where their cards are, and their command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from thunderserve.engine.vllm import arguments
from thunderserve.engine.vllm.arguments import Instance
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.plan import Plan, Replica

HERE = "localhost"
"""The node of a plan that names no cluster."""
RAY_PORT = 6379
MODELS = "/models"
"""Where containers keep checkpoints of a hub."""
OWN_ADDRESS = "$VLLM_HOST_IP"
"""Where a rank's keys and values are fetched, told by a variable where its instance spans nodes: each rank has its own."""


class Part(NamedTuple):
    """The cards of one instance on one node."""

    node: str
    cards: tuple[int, ...]
    """Numbered within the node, as ``CUDA_VISIBLE_DEVICES`` counts."""


class Placed(NamedTuple):
    """One instance."""

    number: int
    replica: Replica
    parts: tuple[Part, ...]
    """That of its first stage leads."""

    @property
    def name(self) -> str:
        """Of its service, container and log."""
        return f"replica-{self.number}"

    @property
    def spans(self) -> bool:
        """Whether it needs more than one node, and so Ray."""
        return len(self.parts) > 1

    @property
    def words(self) -> str:
        """For comments."""
        where = ", ".join(f"{part.node} {','.join(map(str, part.cards))}" for part in self.parts)
        return f"{self.name}: {self.replica.phase.value}, {self.replica.describe()}, on {where}"


@dataclass(frozen=True)
class Site:
    """A plan and where it goes.

    Args:
        plan: checked against ``cluster``.
        cluster: whose nodes hold the cards; none: all are on one node.
        instance: what all instances have in common.
        port: of the first instance on a node, and of the coordinator.
        addresses: node -> how other nodes reach it, for forms without a network of their own.

    Raises:
        SpecError: vLLM cannot serve the plan, or an address is of no node.
    """

    plan: Plan
    cluster: Cluster | None
    instance: Instance
    port: int = 8000
    addresses: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments.check(self.plan)
        for placed in self.placed:
            self._check_order(placed)
        for node in self.addresses:
            if node not in self.nodes:
                raise SpecError(
                    "no such node", key="--node-address", value=node, remedy=nearest(node, self.nodes)
                )  # fmt: skip

    def _check_order(self, placed: Placed) -> None:
        """vLLM's Ray executor takes nodes after the first in an order of its own (0.32), so they have to be alike."""
        later = placed.parts[1:]
        kinds = {(len(part.cards), self._gpus(part)) for part in later}
        layers = {stage.num_layers for stage in placed.replica.stages[1:]}
        if len(later) > 1 and (len(kinds) > 1 or len(layers) > 1):
            raise SpecError(
                f"replica {placed.number} spans {len(placed.parts)} nodes that differ, and vLLM does not keep their order",
                key=f"replicas[{placed.number}]", remedy="give it two nodes, or as many layers on equal cards after the first",
            )  # fmt: skip

    def _gpus(self, part: Part) -> tuple[str, ...]:
        if self.cluster is None:
            return ()
        return tuple(sorted({device.gpu for device in self.cluster.devices if device.node == part.node}))

    @property
    def on_gpus(self) -> bool:
        """Whether instances are given cards."""
        return self.instance.device != "cpu"

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """All instances, in the plan's order."""
        return tuple(Placed(number, replica, self._parts(replica)) for number, replica in enumerate(self.plan.replicas))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """That hold an instance or a part of one."""
        return tuple(dict.fromkeys(part.node for placed in self.placed for part in placed.parts))

    def address(self, node: str) -> str:
        """How other nodes reach ``node``. Raises SpecError where nobody has said."""
        if node in self.addresses:
            return self.addresses[node]
        if len(self.nodes) == 1:
            return "127.0.0.1"
        raise SpecError(
            f"the address of node {node!r} is not given", key="--node-address",
            remedy=f"add --node-address {node}=HOST, or write --format kubernetes, which needs none",
        )  # fmt: skip

    def port_of(self, placed: Placed) -> int:
        """Of an instance where instances of a node share its network: in a row after the coordinator's."""
        node = placed.parts[0].node
        before = [other for other in self.placed[: placed.number] if other.parts[0].node == node]
        return self.port + 1 + len(before)

    def argv(self, placed: Placed, *, listen: str, port: int, reached_at: str) -> list[str]:
        """The command of an instance after its interpreter.

        Args:
            placed: which.
            listen, port: where it serves HTTP.
            reached_at: where its keys and values are fetched.
        """
        instance = replace(self.instance, settings=replace(self.instance.settings, host=reached_at))
        return arguments.arguments(
            placed.replica, instance, self.plan, host=listen, port=port, nodes=len(placed.parts)
        )  # fmt: skip

    def environment(self, placed: Placed, part: Part) -> dict[str, str]:
        """Of a part of an instance."""
        return dict(arguments.environment(placed.replica, self.instance, cards=part.cards))

    def serve(self, urls: list[str], *, plan: str, listen: str, port: int) -> list[str]:
        """The command of the coordinator."""
        found = [
            "harness", "serve", plan, "--engine", "vllm", "--model", self.instance.name, "--host", listen,
            "--port", str(port), "--quiet",
        ]  # fmt: skip
        if self.instance.max_context:
            found += ["--max-context", str(self.instance.max_context)]
        return found + [word for url in urls for word in ("--attach", url)]

    def _parts(self, replica: Replica) -> tuple[Part, ...]:
        if self.cluster is None:
            return (Part(HERE, replica.devices),)
        found: dict[str, list[int]] = {}
        for device in replica.devices:
            node = self.cluster.devices[device].node
            found.setdefault(node, []).append(self._number(device))
        return tuple(Part(node, tuple(cards)) for node, cards in found.items())

    def _number(self, device: int) -> int:
        """Of a card within its node."""
        assert self.cluster is not None  # noqa: S101 - asked for by _parts alone
        node = self.cluster.devices[device].node
        return sum(other.node == node for other in self.cluster.devices[:device])
