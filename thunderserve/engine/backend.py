"""The ``engine`` backend: a plan carried out by real processes on this machine, in real time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thunderserve.backend import Deployment
from thunderserve.cost.source import CostSource
from thunderserve.engine.checkpoint.locate import locate
from thunderserve.engine.coordinator.coordinator import Coordinator
from thunderserve.engine.front.contract import TooLong, Unavailable
from thunderserve.engine.launch.launch import Launch
from thunderserve.engine.launch.plan import Wishes, steps_file
from thunderserve.engine.messages import Sampling
from thunderserve.engine.steplog import by_kind, expected_s, read_steps
from thunderserve.serving.records import Records, Served
from thunderserve.simulator.backend import limits_of, replica_setup
from thunderserve.spec.trace import Trace

DTYPES = {2: "bfloat16", 4: "float32"}
"""By the bytes of a value, as a model's file gives them."""
LEAD_S = 0.5
WARM_TOKENS = (32, 8)
"""Prompt and answer of the requests before the first that counts."""
TELLINGS = 40
Floats = NDArray[np.float64]


@dataclass
class Real:
    """A ``Backend`` that waits for time instead of advancing it.

    Every call starts the plan's workers, warms them up, replays the trace at its own pace, and ends them again. Each replica
    has as many KV blocks as the simulator gives it, so that both serve the same machine.

    Args:
        costs: steps take what they take here; what the cost model says for the same steps is counted beside it.
    """

    costs: CostSource | None = None
    name: str = "engine"
    device: str = "cpu"
    warm: bool = True
    """Serve a few requests before the first that counts."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:  # noqa: ARG002
        """See ``Backend``. Series are not recorded. Counters: ``prefill_step_s``, all seconds in steps
        with tokens of a prompt, ``decode_step_s``, in others, and the same with ``_model_s``: what the cost model says for
        the very same steps.

        Raises:
            SpecError: the model or the plan is beyond this engine.
            LaunchError: a worker did not come up.
        """
        deployment.plan.check(deployment.cluster, deployment.model)
        return asyncio.run(self._serve(deployment, trace))

    async def _serve(self, deployment: Deployment, trace: Trace) -> Served:
        plan, model = deployment.plan, deployment.model
        blocks = min(
            limits_of(model, one, deployment.cluster).blocks * one.batching.block_tokens for one in plan.replicas
        )
        wishes = Wishes(
            dtype=DTYPES[model.dtype_bytes], device=self.device, max_context=model.max_context,
            kv_bytes=int(blocks * model.kv_bytes_per_token(8 * model.dtype_bytes)),
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="thunderserve-") as name:
            folder = Path(name)
            wishes = replace(wishes, steps=folder)
            launch = Launch(
                plan, locate(model.name), folder, name=model.name, cluster=deployment.cluster, wishes=wishes
            )
            await launch.start()
            try:
                if self.warm:
                    await warm(launch.coordinator, 4 * len(plan.replicas), model.vocab_size)
                warmed_s = time.time()
                served = await replay(launch.coordinator, trace, model.vocab_size)
            finally:
                await launch.stop()
            return replace(served, counters=served.counters | self._steps(deployment, folder, warmed_s))

    def _steps(self, deployment: Deployment, folder: Path, since_s: float) -> dict[str, float]:
        """Counters of the steps after ``since_s``."""
        found = {"steps": 0.0}
        for index, replica in enumerate(deployment.plan.replicas):
            steps = [one for one in read_steps(steps_file(folder, index)) if one.end_s > since_s]
            table = None
            if self.costs is not None:
                table = replica_setup(deployment.model, replica, deployment.cluster, self.costs).table
            found["steps"] += len(steps)
            for kind, own in by_kind(steps).items():
                counted = {f"{kind}_step_s": sum(one.seconds for one in own)}
                if table is not None:
                    counted[f"{kind}_step_model_s"] = expected_s(table, own)
                found |= {name: found.get(name, 0.0) + seconds for name, seconds in counted.items()}
        return found


def prompt_of(request: int, tokens: int, vocabulary: int) -> tuple[int, ...]:
    """Random tokens that belong to the ``request``-th of a trace: no two prompts begin alike."""
    return tuple(np.random.default_rng([request, tokens]).integers(0, vocabulary, tokens).tolist())


async def warm(coordinator: Coordinator, requests: int, vocabulary: int) -> None:
    """Serve some short requests, all at once, before those that count."""

    async def one(number: int) -> None:
        prompt = prompt_of(-1 - number & 0xFFFFFFFF, WARM_TOKENS[0], vocabulary)
        async for _ in coordinator.generate(prompt, Sampling(WARM_TOKENS[1])):
            pass

    await asyncio.gather(*(one(number) for number in range(requests)))


async def replay(coordinator: Coordinator, trace: Trace, vocabulary: int) -> Served:
    """Every request at its time, whatever the others do; times of tokens are those at which a client has them."""
    count = len(trace)
    prompts = [prompt_of(i, int(tokens), vocabulary) for i, tokens in enumerate(trace.prompt_tokens)]
    first, last, slips = np.full(count, np.nan), np.full(count, np.nan), np.zeros(count)
    start_s = time.time() + LEAD_S

    async def one(request: int) -> None:
        await asyncio.sleep(start_s + float(trace.arrival_s[request]) - time.time())
        slips[request] = time.time() - start_s - float(trace.arrival_s[request])
        sampling = Sampling(int(trace.output_tokens[request]))
        try:
            async for token in coordinator.generate(prompts[request], sampling, number=request):
                last[request] = time.time() - start_s
                if token.place == 0:
                    first[request] = last[request]
        except (TooLong, Unavailable):
            pass  # its record has the status

    await asyncio.gather(*(one(request) for request in range(count)))
    for _ in range(
        TELLINGS
    ):  # a prefill worker may say when it handed over after the decode worker said the last token
        records = coordinator.history.records(range(count), start_s)
        moved = records.finished & (records.prefill_replica != records.decode_replica) & (trace.output_tokens > 1)
        if not np.isnan(records.transfer_end_s[moved]).any():
            break
        await asyncio.sleep(0.05)
    records = _as_the_client_saw(records, trace, first, last)
    counters = {
        "dispatch_slip_max_s": float(slips.max(initial=0.0)), "reruns": float(coordinator.history.reruns),
        "wall_s": time.time() - start_s,
    }  # fmt: skip
    return Served(records, (), counters)


def _as_the_client_saw(records: Records, trace: Trace, first: Floats, last: Floats) -> Records:
    return replace(
        records, arrival_s=trace.arrival_s, prompt_tokens=trace.prompt_tokens, output_tokens=trace.output_tokens,
        first_token_s=first, finish_s=np.where(records.finished, last, np.nan),
    )  # fmt: skip
