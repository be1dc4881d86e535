"""What clients get when workers refuse, stutter and forget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from plain_worker import whole_answer
from scene import BOTH, LONG, ONE, PAIR, TWO_ALIKE, TWO_PHASES, scene

from thunderserve.engine.front.contract import TooLong, Unavailable
from thunderserve.spec.plan import Flow


@pytest.mark.parametrize("plan", [TWO_ALIKE, TWO_PHASES], ids=["colocated", "two phases"])
def test_a_token_that_is_said_twice_is_told_once(plan: Any) -> None:
    async def check() -> None:
        async with scene(*plan) as stage:
            for worker in stage.all:
                worker.stutters = True
            assert await stage.ask((1,), LONG) == whole_answer((1,), LONG)
            assert stage.coordinator.history.reruns == 0
            await stage.quiet()

    asyncio.run(check())


def test_a_worker_that_fails_a_request_is_followed_by_another() -> None:
    async def check() -> None:
        async with scene(
            [BOTH, BOTH], [Flow(prefill=n, decode=n, share=share) for n, share in ((0, 0.9), (1, 0.1))]
        ) as stage:
            stage.all[0].refuse = 1
            assert await stage.ask((1,), LONG) == whole_answer((1,), LONG)
            assert [len(worker.submits) for worker in stage.all] == [1, 1]
            await stage.quiet()

    asyncio.run(check())


def test_attempts_that_fail_are_bounded() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            stage.all[0].refuse = 2
            assert await stage.ask((1,), LONG) == whole_answer((1,), LONG)
            stage.all[0].refuse = 100
            with pytest.raises(Unavailable, match="3 attempts failed, the last: not today"):
                await stage.ask((1,), LONG)
            assert stage.all[0].refuse == 97
            await stage.quiet()
            assert stage.coordinator.history.outcomes == {"finished": 1, "unavailable": 1}

    asyncio.run(check())


def test_what_no_worker_can_do_is_not_tried_again() -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE) as stage:
            stage.all[0].refuse, stage.all[0].refuse_for_good = 1, True
            with pytest.raises(TooLong, match="not today"):
                await stage.ask((1,), LONG)
            assert [len(worker.submits) for worker in stage.all] == [1, 0]

    asyncio.run(check())


def test_a_forgotten_token_is_noticed_and_the_rest_computed_again() -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE) as stage:
            stage.all[0].skip = 7
            assert await stage.ask((1,), LONG) == whole_answer((1,), LONG)
            assert len(stage.all[1].submits[0].emitted) == 7

    asyncio.run(check())


@pytest.mark.parametrize("how", ["is forgotten", "is lost with its worker"])
def test_a_first_token_that_never_comes_is_computed_again(how: str) -> None:
    """The decode worker says the others meanwhile: they cannot be told without it."""

    async def check() -> None:
        async with scene(*PAIR) as stage:
            first = stage.all[0]
            first.hand_delay_s = 0.1
            if how == "is forgotten":
                first.skip = 0
            else:
                first.late_s = 10
            request = asyncio.create_task(stage.ask((1,), LONG))
            await stage.until(lambda: stage.all[1].arrived)
            await asyncio.sleep(0.05)
            assert stage.coordinator.history.told_tokens == 0
            if how == "is lost with its worker":
                first.die()
                await stage.until(lambda: len(stage.coordinator.peers) == 1)
                await stage.start(0)
            assert await request == whole_answer((1,), LONG)
            assert stage.coordinator.history.reruns == 1
            await stage.quiet()

    asyncio.run(check())


def test_whoever_is_no_worker_is_turned_away() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            for words in (b"GET / HTTP/1.1\r\n", b'["Hello",2,0,1,"h",1,1,1,1,"cpu",0]\n', b'["Beat"]\n', b"\xff\n"):
                reader, writer = await asyncio.open_connection(*stage.address)
                writer.write(words)
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                writer.close()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stage.start(5), 0.3)
            stage.all[0]._writer.write(b"nonsense\n")
            await stage.until(lambda: not stage.coordinator.peers)

    asyncio.run(check())
