"""One request alone on the reference GPU: the latencies that SLO scale 1 stands for.

The reference is A100-80G cards with NVLink, as few (1, 2, 4 or 8, tensor parallel) as hold the model and one longest
request, at data-sheet figures whatever the sweep's catalogue: the yardstick stays the same when the catalogue changes.
HexGen (ICML 2024) defines the SLO scale as a multiple of the latency on A100; the paper's own definition is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thunderserve.cost.evaluate import decode_s, prefill_s, step_latency_s
from thunderserve.cost.memory import kv_blocks
from thunderserve.cost.source import CostSource
from thunderserve.cost.step_table import Floats, StepTable
from thunderserve.spec.cluster import Cluster, Device, Link
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage
from thunderserve.spec.slo import Latencies
from thunderserve.spec.trace import Trace


def reference_cluster(gpu: Gpu, count: int) -> Cluster:
    """``count`` cards of ``gpu`` on one node, joined by its fabric."""
    return Cluster(
        name=f"reference-{count}x{gpu.name}",
        gpus={gpu.name: gpu},
        devices=tuple(Device(id=i, gpu=gpu.name, node="reference") for i in range(count)),
        inside={"reference": Link(latency_s=gpu.fabric_latency_s, bytes_per_s=gpu.fabric_bytes_per_s)},
    )


def reference_replica(model: ModelSpec, gpu: Gpu) -> tuple[Replica, Cluster]:
    """The smallest tensor-parallel group of ``gpu`` that holds ``model`` and one request of its longest context.

    Raises ValueError if eight cards do not.
    """
    batching = Batching(policy="prefill_first", max_sequences=1, max_batched_tokens=2048)
    for count in (1, 2, 4, 8):
        replica = Replica(
            stages=(Stage(devices=tuple(range(count)), num_layers=model.num_layers),),
            phase=Phase.BOTH,
            batching=batching,
        )
        cluster = reference_cluster(gpu, count)
        if kv_blocks(model, replica, cluster) * batching.block_tokens >= model.max_context:
            return replica, cluster
    raise ValueError(f"eight {gpu.name} do not hold {model.name}: there is no reference to scale an SLO by")


@dataclass(frozen=True)
class Alone:
    """Closed form of one request alone, from a step table."""

    table: StepTable

    def __call__(self, trace: Trace) -> Latencies:
        """Latencies of each request of ``trace`` as if it were the only one."""
        prompts, outputs = trace.prompt_tokens, trace.output_tokens
        ttft_s = step_latency_s(self.table, prefill_s(self.table, prompts), prompts)
        decoding_s = self._cumulated(int((prompts + outputs).max(initial=2)))
        # Output token j (from the second) is made by a step that reads prompt + j - 1 keys.
        rest_s = decoding_s[prompts + outputs - 1] - decoding_s[prompts]
        with np.errstate(invalid="ignore", divide="ignore"):
            tpot_s = np.where(outputs > 1, rest_s / (outputs - 1), np.nan)
        return Latencies(ttft_s=ttft_s, tpot_s=tpot_s, e2e_s=ttft_s + rest_s)

    def _cumulated(self, longest: int) -> Floats:
        """(longest + 1,) seconds of all single-sequence decode steps that read 1, 2 ... keys, summed up."""
        steps = step_latency_s(self.table, decode_s(self.table, 1, np.arange(1, longest + 1)), np.ones(longest))
        return np.concatenate([[0.0], np.cumsum(steps)])


def alone_on(model: ModelSpec, gpu: Gpu, costs: CostSource) -> Alone:
    """``Alone`` for ``model`` on the smallest group of ``gpu``."""
    replica, cluster = reference_replica(model, gpu)
    table = costs.step_table(
        model, replica, cluster, max_tokens=model.max_context, max_sequences=1, max_context=model.max_context
    )
    return Alone(table)
