"""A system of your own: one file, one dataclass, one method. Name it in a sweep as systems: [./system.py]

This one cuts the cluster into equal groups of cards and runs a whole copy of the model on each. It is all that a system
needs: a frozen dataclass called ``System`` whose fields are its options, with a method ``plan``.
"""

from __future__ import annotations

from dataclasses import dataclass

from thunderserve.policy import Problem
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage

ROOM = 1.25
"""Cards must hold this many times the weights, so that a KV cache fits beside them."""


@dataclass(frozen=True)
class System:
    """Options: ``systems: [{name: ./system.py, cards: 4}]``."""

    cards: int | None = None
    """Cards of one copy of the model; by default as few (1, 2, 4 or 8) as hold it."""

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when no group of equal cards on one node holds the model."""
        groups = [group for cards in self._by_type(problem) for group in self._groups(problem, cards)]
        if not groups:
            raise ValueError(f"no node of {problem.cluster.name} holds {problem.model.name}")
        batching = Batching(policy="chunked")
        replicas = tuple(
            Replica(
                stages=(Stage(devices=group, num_layers=problem.model.num_layers),), phase=Phase.BOTH, batching=batching
            )
            for group in groups
        )
        flows = tuple(Flow(prefill=i, decode=i, share=1 / len(replicas)) for i in range(len(replicas)))
        return Plan(system="mine", replicas=replicas, flows=flows, router="join_shortest_queue")

    def _by_type(self, problem: Problem) -> list[list[int]]:
        """Cards of one type on one node, together."""
        found: dict[tuple[str, str], list[int]] = {}
        for device in problem.cluster.devices:
            found.setdefault((device.node, device.gpu), []).append(device.id)
        return list(found.values())

    def _groups(self, problem: Problem, cards: list[int]) -> list[tuple[int, ...]]:
        memory = problem.cluster.gpu(cards[0]).memory_bytes
        wanted = ROOM * problem.model.weight_bytes
        size = self.cards or next((count for count in (1, 2, 4, 8) if count * memory >= wanted), len(cards) + 1)
        return [tuple(cards[start : start + size]) for start in range(0, len(cards) - size + 1, size)]
