"""The ``vllm`` backend: a plan carried out by real, unmodified vLLM on this machine, in real time, through our coordinator."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from thunderserve.backend import Deployment
from thunderserve.cost.source import CostSource
from thunderserve.engine.backend import DTYPES, replay, warm
from thunderserve.engine.checkpoint.locate import locate
from thunderserve.engine.launch.launch import Launch
from thunderserve.engine.launch.plan import Wishes
from thunderserve.engine.vllm import figures
from thunderserve.engine.vllm.arguments import Instance
from thunderserve.engine.vllm.exchange import Exchange
from thunderserve.engine.vllm.launch import MODULE, Fleet, interpreter, with_blocks
from thunderserve.engine.vllm.options import AttendantOptions
from thunderserve.engine.vllm.settings import Settings
from thunderserve.serving.records import Records, Served
from thunderserve.simulator.backend import limits_of
from thunderserve.spec.trace import Trace

READY_S = 600.0
"""Two instances that share a machine take minutes to come up."""


class RecomputedError(RuntimeError):
    """The decode instances computed prompts themselves: the text would be right, and the measurement wrong."""


@dataclass
class Vllm:
    """A ``Backend`` that waits for time instead of advancing it.

    Args:
        costs: not used: here, steps take what they take.
    """

    costs: CostSource | None = None
    name: str = "vllm"
    device: str = "cpu"
    connector: str = "thunderserve"
    transport: str = "tcp"
    """Of keys and values: ``tcp``, or ``nixl`` where vLLM's environment has it."""
    python: str = ""
    """Of vLLM's environment; empty: see ``launch.interpreter``."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:  # noqa: ARG002
        """See ``Backend``. Series are not recorded; counters are vLLM's own.

        Raises:
            SpecError: vLLM is not there, or the plan is beyond it.
            LaunchError: an instance did not come up.
            RecomputedError: keys and values were not taken over.
        """
        return asyncio.run(self._serve(deployment, trace))

    async def _serve(self, deployment: Deployment, trace: Trace) -> Served:
        vocabulary = deployment.model.vocab_size
        async with self.running(deployment) as launch:
            await warm(launch.coordinator, 4 * len(deployment.plan.replicas), vocabulary)
            before = await read_all(launch)
            served = await replay(launch.coordinator, trace, vocabulary)
            grown = [figures.kept(now, was) for now, was in zip(await read_all(launch), before, strict=True)]
        if self.connector == "thunderserve":
            check_taken_over(served.records, grown)
        return replace(served, counters={**served.counters, **by_replica(grown)})

    @asynccontextmanager
    async def running(self, deployment: Deployment) -> AsyncIterator[Launch]:
        """The plan's instances, ready behind a coordinator, until the block is left. Raises as ``serve`` does."""
        model, plan = deployment.model, deployment.plan
        plan.check(deployment.cluster, model)
        python = interpreter(self.python or None)
        with tempfile.TemporaryDirectory(prefix="thunderserve-") as folder:
            instance = self._instance(deployment, folder)
            fleet = Fleet(plan, instance, python)
            launch = Launch(
                plan, instance.model, Path(folder), name=model.name, cluster=deployment.cluster,
                wishes=Wishes(dtype=instance.dtype, device=self.device), module=MODULE, staff=fleet.staff(),
            )  # fmt: skip
            await launch.start(timeout_s=READY_S)
            try:
                yield launch
            finally:
                await launch.stop()

    def _instance(self, deployment: Deployment, folder: str) -> Instance:
        model, plan = deployment.model, deployment.plan
        blocks = min(
            limits_of(model, one, deployment.cluster).blocks * one.batching.block_tokens for one in plan.replicas
        )
        instance = Instance(
            locate(model.name), model.name, dtype=DTYPES[model.dtype_bytes], device=self.device,
            max_context=model.max_context, connector=self.connector, folder=folder,
            settings=Settings(transport=self.transport),
        )  # fmt: skip
        if self.device != "cpu":
            return instance
        return with_blocks(instance, int(blocks), 1, int(model.kv_bytes_per_token(8 * model.dtype_bytes)))


def over_files(costs: CostSource | None = None) -> Vllm:
    """The same with vLLM's own connector over files in the place of ours."""
    return Vllm(costs, name="vllm-files", connector="example")


def told(launch: Launch) -> list[AttendantOptions]:
    """What the attendants of the instances were told, in the plan's order."""
    return [process.options for process in launch.processes if isinstance(process.options, AttendantOptions)]


async def read_all(launch: Launch) -> list[dict[str, float]]:
    """The figures of every instance, in the plan's order."""
    async with aiohttp.ClientSession() as session:
        return [figures.read(await Exchange(session, one.url, one.name).get("/metrics")) for one in told(launch)]


def by_replica(grown: list[dict[str, float]]) -> Mapping[str, float]:
    """One flat table: ``vllm[0].prompt_tokens_total``."""
    return {
        f"vllm[{number}].{name.removeprefix('vllm:')}": value
        for number, one in enumerate(grown)
        for name, value in one.items()
    }


def check_taken_over(records: Records, grown: list[dict[str, float]]) -> None:
    """Every prompt token of a request that went to another instance came there over the wire, by vLLM's own counters.

    The decode instance is given one token more than the prompt, the first of the answer, which it computes itself.

    Raises:
        RecomputedError: it did not.
    """
    moved = (records.prefill_replica != records.decode_replica) & records.finished & (records.output_tokens > 1)
    for replica in sorted({int(one) for one in records.decode_replica[moved]}):
        mine = moved & (records.decode_replica == replica)
        wanted, came = int(records.prompt_tokens[mine].sum()), grown[replica].get(figures.EXTERNAL, 0.0)
        if came < wanted:
            raise RecomputedError(
                f"replica {replica} was handed prompts of {wanted} tokens, but took over {came:.0f} by vLLM's own count "
                f"(computed itself: {grown[replica].get(figures.COMPUTED, 0.0):.0f})"
            )
