"""Replicas of several ranks as worker processes: two phases, and the death of a rank."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from thunderserve.engine.checkpoint.tiny import tiny
from thunderserve.engine.coordinator.settings import Settings
from thunderserve.engine.launch.launch import Launch
from thunderserve.engine.launch.plan import Wishes
from thunderserve.engine.messages import Role, Sampling, Submit
from thunderserve.engine.replica.core import Replica
from thunderserve.engine.replica.model import Model
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Stage
from thunderserve.spec.plan import Replica as Planned

PREFILL = Planned(
    stages=(Stage(devices=(0, 1), num_layers=3),), phase=Phase.PREFILL, batching=Batching(policy="saturation")
)
DECODE = Planned(
    stages=(Stage(devices=(2,), num_layers=1), Stage(devices=(3,), num_layers=2)), phase=Phase.DECODE,
    batching=Batching(policy="continuous"),
)  # fmt: skip
PLAN = Plan(system="by hand", replicas=(PREFILL, DECODE), flows=(Flow(prefill=0, decode=1, share=1),))
PROMPTS = [tuple(range(3 * n, 3 * n + 20 + n)) for n in range(4)]
ASKED = [(prompt, sampling) for prompt in PROMPTS for sampling in (Sampling(60), Sampling(60, temperature=1.0, seed=5))]


def alone(folder: Path) -> list[list[int]]:
    """What one device says."""
    model, replica = (
        Model(str(folder)),
        Replica(Role("both", "chunked", 16, 64), blocks=99, block_tokens=16, max_context=2048),
    )
    memory = model.memory(99, 16)
    said: list[list[int]] = [[] for _ in ASKED]
    for number, (prompt, sampling) in enumerate(ASKED):
        replica.submit(Submit(number, prompt, sampling))
    while (step := replica.schedule(0.0)) is not None:
        for token in replica.complete(model.execute(step, memory), 0.0).tokens:
            said[token.id].append(token.token)
    return said


def ranks_of(pid: int) -> list[int]:
    """Processes that a worker has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def gone(pids: list[int]) -> bool:
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        await asyncio.sleep(0.05)
    return False


async def ask(launch: Launch, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
    return [token.token async for token in launch.coordinator.generate(prompt, sampling)]


@pytest.mark.slow
def test_two_phases_of_ranks_say_what_one_device_says_also_after_the_death_of_a_rank(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model")

    async def check() -> None:
        launch = Launch(
            PLAN, str(folder), tmp_path, wishes=Wishes(kv_bytes=1 << 24), settings=Settings(patience_s=60, silence_s=5),
            restart=True,
        )  # fmt: skip
        await launch.start(timeout_s=120)
        try:
            expected = alone(folder)
            assert await asyncio.gather(*(ask(launch, *one) for one in ASKED)) == expected
            worker = launch.processes[1]
            first, (rank,) = worker.pid, ranks_of(worker.pid)
            running = [asyncio.create_task(ask(launch, *one)) for one in ASKED]  # beginnings are found in memory now
            before = launch.coordinator.history.told_tokens
            while launch.coordinator.history.told_tokens < before + 40:
                await asyncio.sleep(0.002)
            os.kill(rank, signal.SIGKILL)
            assert await asyncio.gather(*running) == expected
            assert launch.coordinator.history.reruns > 0
            assert worker.pid != first
            assert f"rank 1 (pid {rank}) ended with -9: the replica ends" in worker.log_file.read_text()
            living = [pid for one in launch.processes for pid in (one.pid, *ranks_of(one.pid))]
            os.kill(worker.pid, signal.SIGKILL)
            assert len(living) == 4
            assert await gone(living[2:]), "a rank outlives its worker"
        finally:
            await launch.stop()
        assert await gone(living)

    asyncio.run(check())
