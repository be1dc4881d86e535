"""vLLM as an operator deploys it: identical colocated replicas, continuous batching, a load balancer in front.

Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention" (SOSP 2023). Batching is
vLLM V1's chunked prefill by default (decodes first, Sarathi-Serve's token budget) or V0's whole prompts first. TP and PP
are found as an operator would: every shape that fits is tried on the expected workload, and the one with the highest
goodput a card is kept. On mixed clusters each GPU type gets its own shape; cards of different types never share a replica.

Left out: prefix caching, speculative decoding, swapping to CPU memory (V1 recomputes, and so does this), CPU-side contention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from baselines.shared.goodput import Goodput, Judge, solo_server
from baselines.shared.instances import Shape, pack, replica, shapes
from thunderserve.policy import Problem
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Router


@dataclass(frozen=True)
class System:
    """Options of the ``vllm`` system."""

    scheduler: Literal["chunked", "prefill_first"] = "chunked"
    """``chunked`` is vLLM V1, ``prefill_first`` is V0."""
    tp: int | None = None
    """Fix the tensor-parallel degree instead of trying all."""
    pp: int | None = None
    """Fix the pipeline-parallel degree instead of trying all."""
    max_batched_tokens: int = 2048
    max_sequences: int = 256
    router: Router = "join_shortest_queue"
    """How the load balancer picks a replica; vLLM's own picks the engine with the fewest waiting and running requests."""
    requests: int = 1000
    """Requests simulated for each rate and shape tried."""

    def plan(self, problem: Problem) -> Plan:
        """Raises ValueError when no shape of any GPU type holds the model."""
        batching = Batching(
            policy=self.scheduler, max_batched_tokens=self.max_batched_tokens, max_sequences=self.max_sequences
        )
        replicas: list[Replica] = []
        weights: list[float] = []
        notes: dict[str, str] = {}
        for gpu in dict.fromkeys(device.gpu for device in problem.cluster.devices):
            tried = self._tried(problem, gpu, batching)
            if not tried:
                notes[gpu] = "no shape holds the model"
                continue
            best = max(tried, key=lambda shape: tried[shape].per_gpu(shape.num_gpus))
            notes[gpu] = _note(best, tried)
            packed = pack(problem.cluster, best)
            replicas += [replica(problem.model, stages, Phase.BOTH, batching) for stages in packed]
            weights += [tried[best].rate_per_s()] * len(packed)
        if not replicas:
            raise ValueError(f"vllm: no GPU type of {problem.cluster.name} holds {problem.model.name}")
        return Plan(system="vllm", replicas=tuple(replicas), flows=_flows(weights), router=self.router, notes=notes)

    def _tried(self, problem: Problem, gpu: str, batching: Batching) -> dict[Shape, Goodput]:
        """Goodput of one replica of every shape of a type."""
        judge = Judge(problem, self.requests, lambda met: met.joint)
        found = shapes(problem.cluster, problem.model, gpu, batching, problem.model.max_context)
        return {
            shape: judge.goodput(solo_server(problem, _first(problem, shape, batching)))
            for shape in found
            if self.tp in (None, shape.tp) and self.pp in (None, shape.pp)
        }


def _first(problem: Problem, shape: Shape, batching: Batching) -> Replica:
    return replica(problem.model, pack(problem.cluster, shape)[0], Phase.BOTH, batching)


def _flows(weights: list[float]) -> tuple[Flow, ...]:
    """Shares in proportion to what each replica sustains; they matter to the ``flows`` router only."""
    total = sum(weights)
    return tuple(Flow(prefill=i, decode=i, share=weight / total) for i, weight in enumerate(weights))


def _note(best: Shape, tried: dict[Shape, Goodput]) -> str:
    """What was weighed, best first."""
    order = sorted(tried, key=lambda shape: tried[shape].per_gpu(shape.num_gpus), reverse=True)
    rates = ", ".join(
        f"TP={shape.tp} PP={shape.pp}: {tried[shape].per_gpu(shape.num_gpus).goodput_per_s:.3g}" for shape in order
    )
    return f"TP={best.tp} PP={best.pp}; goodput a card in requests/s: {rates}"
