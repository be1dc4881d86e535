"""Both instances change their phase under load, by routing alone: nobody is hurt, no weight moves."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from test_split import prompt

from thunderserve.backend import Deployment
from thunderserve.engine.coordinator.coordinator import Coordinator
from thunderserve.engine.messages import Role, Sampling
from thunderserve.engine.vllm import figures
from thunderserve.engine.vllm.backend import Vllm, read_all
from thunderserve.serving.records import Records
from thunderserve.spec.load import load_cluster, load_model
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage

REQUESTS, TOKENS, APART_S = 40, 24, 0.25
LAG_S = 2.0
"""vLLM's figures come so much later than its answers, at most."""
ROLES = {Phase.PREFILL: Role("prefill", "saturation", 256, 2048), Phase.DECODE: Role("decode", "continuous", 256, 2048)}


def deployment() -> Deployment:
    model = load_model("smollm2-135m").model_copy(update={"dtype_bytes": 4, "max_context": 2048})
    replicas = tuple(
        Replica(stages=(Stage(devices=(place,), num_layers=model.num_layers),), phase=phase, batching=Batching(policy=policy))
        for place, (phase, policy) in enumerate(((Phase.PREFILL, "saturation"), (Phase.DECODE, "continuous")))
    )  # fmt: skip
    plan = Plan(system="flip", replicas=replicas, flows=(Flow(prefill=0, decode=1, share=1.0),))
    return Deployment(plan, load_cluster("local-2"), model)


async def ask(coordinator: Coordinator, seed: int, number: int | None = None) -> list[int]:
    return [token.token async for token in coordinator.generate(tuple(prompt(seed)), Sampling(TOKENS), number=number)]


async def settled(coordinator: Coordinator) -> Records:
    """All records, once the prefill sides have said when they handed over."""
    for _ in range(100):
        records = coordinator.history.records(range(REQUESTS))
        if not np.isnan(records.transfer_end_s).any():
            break
        await asyncio.sleep(0.05)
    return records


def flip(coordinator: Coordinator) -> float:
    """Prefill there and decode here from now on. Returns the seconds that it took."""
    began_s = time.perf_counter()
    coordinator.flip(0, ROLES[Phase.DECODE])
    coordinator.flip(1, ROLES[Phase.PREFILL])
    coordinator.reroute([Flow(prefill=1, decode=0, share=1.0)])
    return time.perf_counter() - began_s


def test_both_instances_flip_under_load_and_nobody_is_hurt() -> None:
    async def check() -> None:
        async with Vllm().running(deployment()) as launch:
            coordinator = launch.coordinator
            expected = [await ask(coordinator, 4000 + seed) for seed in range(8)]
            await asyncio.sleep(LAG_S)
            before = await read_all(launch)
            tasks, flipped_s, took_s = [], 0.0, 0.0
            for number in range(REQUESTS):
                tasks.append(asyncio.create_task(ask(coordinator, 4000 + number % 8, number)))
                await asyncio.sleep(APART_S)
                if number == REQUESTS // 2:
                    took_s, flipped_s = flip(coordinator), time.time()
            answers = await asyncio.gather(*tasks)
            records = await settled(coordinator)
            await asyncio.sleep(LAG_S)
            grown = [figures.kept(now, was) for now, was in zip(await read_all(launch), before, strict=True)]
        _judge(answers, expected, records, flipped_s)
        assert coordinator.history.reruns == 0
        external = sum(one[figures.EXTERNAL] for one in grown)
        assert external == records.prompt_tokens.sum(), "neither side computed a prompt twice"
        new = records.prefill_replica == 1
        first_s = float(records.first_token_s[new].min()) - flipped_s
        running = int((records.finish_s[~new] > flipped_s).sum())
        print(
            f"\nthe flip took {took_s * 1e3:.2f} ms with {running} requests under way; the first token by the new roles came "
            f"{first_s:.2f} s after it; {REQUESTS} of {REQUESTS} requests finished, none was run again"
        )

    asyncio.run(check())


def _judge(answers: list[list[int]], expected: list[list[int]], records: Records, flipped_s: float) -> None:
    assert records.finished.all()
    same = sum(answer == expected[number % 8] for number, answer in enumerate(answers))
    assert same >= REQUESTS - 2  # sums of another batch may decide a near-tie otherwise
    new = records.arrival_s > flipped_s
    assert new.sum() > REQUESTS // 4
    assert set(zip(records.prefill_replica[new].tolist(), records.decode_replica[new].tolist(), strict=True)) == {
        (1, 0)
    }
    old = records.finish_s < flipped_s
    assert set(zip(records.prefill_replica[old].tolist(), records.decode_replica[old].tolist(), strict=True)) == {
        (0, 1)
    }
