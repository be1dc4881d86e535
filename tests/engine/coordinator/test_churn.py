"""Everything at once: roles that change, workers that come and go, clients that leave."""

from __future__ import annotations

import asyncio
import random

import pytest
from plain_worker import whole_answer
from scene import DECODE, LONG, PAIR, PREFILL, QUICK, Scene, scene

from thunderserve.engine.messages import Role, Sampling
from thunderserve.spec.plan import Flow


def test_a_flip_changes_who_serves_what_and_lets_run_what_runs() -> None:
    async def check() -> None:
        async with scene(*PAIR) as stage:
            running = asyncio.create_task(stage.ask((1,), LONG, number=0))
            await stage.in_the_middle(1, running)
            prefill, decode = (role._replace(max_sequences=32) for role in (PREFILL, DECODE))
            stage.coordinator.flip(0, decode)
            assert stage.coordinator.health()["status"] == "down", "no flow fits the roles"
            waits = asyncio.create_task(stage.ask((2,), LONG))
            with pytest.raises(ValueError, match="cannot hand over"):
                stage.coordinator.reroute([Flow(prefill=1, decode=0, share=1)])
            stage.coordinator.flip(1, prefill)
            stage.coordinator.reroute([Flow(prefill=1, decode=0, share=1)])
            assert await waits == whole_answer((2,), LONG)
            assert await running == whole_answer((1,), LONG)
            assert stage.coordinator.history.attempts([0]) == (1,)
            assert [len(worker.submits) for worker in stage.all] == [1, 1]
            assert stage.all[0].roles == [decode]
            stage.all[1].die()
            restarted = await stage.start(1)
            await stage.until(lambda: restarted.roles == [prefill])
            with pytest.raises(ValueError, match="was started for 64 sequences, not 65"):
                stage.coordinator.flip(0, Role("both", "chunked", 65, 512))
            with pytest.raises(ValueError, match="no replica 2"):
                stage.coordinator.flip(2, prefill)

    asyncio.run(check())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_among_200_requests_with_cancels_and_deaths(seed: int) -> None:
    """Every answer that is read to its end is the whole answer; afterwards nothing is left of any request."""
    chance = random.Random(seed)
    flows = [Flow(prefill=p, decode=d, share=0.25) for p in (0, 1) for d in (2, 3)]
    patient = QUICK.__class__(silence_s=0.5, patience_s=20, again_s=0.01, failures=20, losses=50)

    async def client(stage: Scene, number: int) -> str:
        sampling, prompt = Sampling(chance.randint(1, 80), seed=number), (number,) * chance.randint(1, 9)
        leaves_after = chance.randint(0, 40) if chance.random() < 0.3 else None
        await asyncio.sleep(chance.uniform(0, 1.0))
        if leaves_after is None:
            assert await stage.ask(prompt, sampling, number=number) == whole_answer(prompt, sampling)
            return "served"
        answer = stage.coordinator.generate(prompt, sampling, number=number)
        told = []
        async for token in answer:
            told.append(token.token)
            if len(told) > leaves_after:
                break
        await answer.aclose()
        assert told == whole_answer(prompt, sampling)[: len(told)]
        return "left"

    async def reaper(stage: Scene) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.05, 0.15))
            victim = chance.randrange(4)
            if chance.random() < 0.2:
                stage.workers[victim].mute = True  # found dead by its silence, or replaced
            else:
                stage.workers[victim].die()
            await asyncio.sleep(chance.uniform(0, 0.05))
            await stage.start(victim)

    async def check() -> None:
        async with scene([PREFILL, PREFILL, DECODE, DECODE], flows, settings=patient) as stage:
            reaping = asyncio.create_task(reaper(stage))
            async with asyncio.timeout(25):
                ends = await asyncio.gather(*(client(stage, number) for number in range(200)))
            reaping.cancel()
            await asyncio.gather(reaping, return_exceptions=True)
            for worker in stage.all:
                if worker.mute:
                    worker.die()
            await stage.quiet()
            found = stage.coordinator.history
            assert ends.count("served") > 100
            assert found.reruns > 10, "the deaths met somebody"
            assert sum(found.outcomes.values()) == 200
            assert set(found.outcomes) == {"finished", "cancelled"}
            assert found.records(range(200)).finished.sum() == found.outcomes["finished"] >= ends.count("served")

    asyncio.run(check())
