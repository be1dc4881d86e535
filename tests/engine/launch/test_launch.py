"""Worker processes from their start to their end; the real ones with a tiny random model."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thunderserve.engine.coordinator.settings import Settings
from thunderserve.engine.launch import process
from thunderserve.engine.launch.launch import Launch, LaunchError
from thunderserve.engine.launch.plan import Wishes
from thunderserve.engine.messages import Role, Sampling
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage

LAYERS = 3


def plan(*phases: Phase) -> Plan:
    policy = {Phase.PREFILL: "saturation", Phase.DECODE: "continuous", Phase.BOTH: "chunked"}
    replicas = [
        Replica(
            stages=(Stage(devices=(index,), num_layers=LAYERS),),
            phase=phase,
            batching=Batching(policy=policy[phase], max_sequences=16, max_batched_tokens=256),  # type: ignore[arg-type]
        )
        for index, phase in enumerate(phases)
    ]
    flows = [Flow(prefill=0, decode=len(phases) - 1, share=1)]
    return Plan(system="by hand", replicas=tuple(replicas), flows=tuple(flows))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.usefixtures("modules")
def test_a_worker_that_dies_at_once_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    async def check() -> None:
        launch = Launch(plan(Phase.PREFILL, Phase.DECODE), "none", tmp_path / "logs", module="dying_worker")
        with pytest.raises(LaunchError, match=r"worker \d ended with 3 before it was ready") as caught:
            await launch.start()
        assert "loading weights" in str(caught.value)
        assert "the disk is on fire" in str(caught.value)
        assert not any(alive(one.pid) for one in launch.processes)

    asyncio.run(check())


@pytest.mark.usefixtures("modules")
def test_a_worker_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.2)
    monkeypatch.setattr(process, "TERMINATE_S", 0.2)

    async def check() -> None:
        seen = []
        launch = Launch(plan(Phase.BOTH), "none", tmp_path, module="deaf_worker")
        await launch.start(seen=lambda ready, of: seen.append((ready, of)))
        assert seen[-1] == (1, 1)
        (only,) = launch.processes
        await launch.stop()
        assert only.code == -signal.SIGKILL
        assert not alive(only.pid)
        assert only.tail() == "hello said"

    asyncio.run(check())


@pytest.mark.usefixtures("modules")
def test_a_worker_that_is_not_ready_in_time_is_told_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.1)

    async def check() -> None:
        launch = Launch(plan(Phase.BOTH), "none", tmp_path, module="deaf_worker")
        with pytest.raises(LaunchError, match="worker 0 is not ready after 0 s"):
            await launch.start(timeout_s=0)
        assert not alive(launch.processes[0].pid)

    asyncio.run(check())


@pytest.mark.usefixtures("modules")
def test_a_dead_worker_is_started_again_only_when_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.1)
    monkeypatch.setattr(process, "TERMINATE_S", 0.1)

    async def check(*, restart: bool) -> bool:
        launch = Launch(plan(Phase.BOTH), "none", tmp_path, module="deaf_worker", restart=restart)
        await launch.start()
        (only,) = launch.processes
        first = only.pid
        os.kill(first, signal.SIGKILL)
        deadline_s = time.monotonic() + (8 if restart else 2)
        while not (only.pid != first and launch.coordinator.peers) and time.monotonic() < deadline_s:
            await asyncio.sleep(0.02)
        came_back = only.pid != first and launch.coordinator.peers[0].hello.pid == only.pid
        await launch.stop()
        assert not alive(first)
        assert not alive(only.pid)
        return came_back

    assert asyncio.run(check(restart=True))
    assert not asyncio.run(check(restart=False))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("torch", reason="the real worker needs torch")
    pytest.importorskip("transformers", reason="the real worker needs transformers")
    from thunderserve.engine.checkpoint.tiny import tiny

    return str(tiny(tmp_path_factory.mktemp("llama")))


@asynccontextmanager
async def launched(of: Plan, checkpoint: str, folder: Path, **options: Any) -> AsyncIterator[Launch]:
    launch = Launch(
        of,
        checkpoint,
        folder,
        wishes=Wishes(kv_bytes=1 << 24),
        settings=Settings(patience_s=60, silence_s=5),
        **options,
    )
    await launch.start(timeout_s=120)
    try:
        yield launch
    finally:
        await launch.stop()


async def ask(launch: Launch, prompt: tuple[int, ...], sampling: Sampling, number: int | None = None) -> list[int]:
    return [token.token async for token in launch.coordinator.generate(prompt, sampling, number=number)]


PROMPTS = [tuple(range(3 * n, 3 * n + 20 + n)) for n in range(6)]
GREEDY, DRAWN = Sampling(40), Sampling(40, temperature=1.0, seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("transfer", ["after_prefill", "layerwise"])
def test_real_workers_give_the_same_answers_in_two_phases_in_one_and_after_a_death(
    checkpoint: str, tmp_path: Path, transfer: str
) -> None:
    split = plan(Phase.PREFILL, Phase.DECODE).model_copy(update={"transfer": transfer})

    async def check() -> None:
        async with launched(split, checkpoint, tmp_path, restart=True) as launch:
            asked = [(prompt, sampling) for prompt in PROMPTS for sampling in (GREEDY, DRAWN)]
            expected = await asyncio.gather(*(ask(launch, *one, number) for number, one in enumerate(asked)))
            assert len(set(map(tuple, expected))) > len(PROMPTS), "the answers differ from prompt to prompt"
            for _ in range(
                200
            ):  # a prefill worker may say when it handed over after the decode worker said the last token
                records = launch.coordinator.history.records(range(len(asked)))
                if not np.isnan(records.transfer_s).any():
                    break
                await asyncio.sleep(0.05)
            assert records.finished.all()
            assert (records.transfer_s > 0).all()
            assert (records.prefill_start_s <= records.first_token_s).all()

            running = [asyncio.create_task(ask(launch, *one)) for one in asked]
            await told(launch, 60)
            os.kill(launch.processes[1].pid, signal.SIGKILL)
            assert await asyncio.gather(*running) == expected
            assert launch.coordinator.history.reruns > 0

            for replica in (0, 1):
                launch.coordinator.flip(replica, Role("both", "chunked", 16, 256))
            launch.coordinator.reroute([Flow(prefill=replica, decode=replica, share=0.5) for replica in (0, 1)])
            assert await asyncio.gather(*(ask(launch, *one) for one in asked)) == expected
            assert launch.coordinator.live == 0

    asyncio.run(check())


async def told(launch: Launch, more: int) -> None:
    """So many tokens more than now."""
    before = launch.coordinator.history.told_tokens
    while launch.coordinator.history.told_tokens < before + more:
        await asyncio.sleep(0.002)
