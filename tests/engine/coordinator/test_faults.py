"""What clients get while workers die and hang: the same answers, later; or an error in words."""

from __future__ import annotations

import asyncio
import time

import pytest
from plain_worker import whole_answer
from scene import DECODE, LONG, ONE, PAIR, PREFILL, QUICK, TWO_ALIKE, TWO_PHASES, scene

from thunderserve.engine.front.contract import Unavailable
from thunderserve.spec.plan import Flow


@pytest.mark.parametrize("how", ["die", "hang"])
def test_another_worker_goes_on_where_one_died(how: str) -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE) as stage:
            request = asyncio.create_task(stage.ask((1, 2), LONG, number=0))
            await stage.in_the_middle(0, request)
            if how == "die":
                stage.all[0].die()
            else:
                stage.all[0].mute = True
            assert await request == whole_answer((1, 2), LONG)
            (again,) = stage.all[1].submits
            assert again.emitted == tuple(whole_answer((1, 2), LONG)[: len(again.emitted)])
            assert len(again.emitted) >= 5
            assert stage.coordinator.history.attempts([0]) == (2,)
            assert stage.coordinator.history.reruns == 1
            if how == "die":
                await stage.quiet()

    asyncio.run(check())


def test_a_hung_worker_is_hung_up_on_after_its_silence_and_not_before() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            await asyncio.sleep(1.5 * QUICK.silence_s)
            assert len(stage.coordinator.peers) == 1, "it beats"
            stage.all[0].mute = True
            start_s = time.monotonic()
            await stage.until(lambda: not stage.coordinator.peers)
            assert QUICK.silence_s - 0.1 <= time.monotonic() - start_s <= QUICK.silence_s + 0.3
            await stage.until(lambda: stage.all[0].stopped)
            assert stage.coordinator.health()["status"] == "down"

    asyncio.run(check())


def test_a_prefill_worker_that_dies_after_handing_over_is_not_missed() -> None:
    async def check() -> None:
        async with scene(*PAIR) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG, number=0))
            await stage.in_the_middle(1, request)
            stage.all[0].die()
            assert await request == whole_answer((1,), LONG)
            assert stage.coordinator.history.attempts([0]) == (1,)

    asyncio.run(check())


@pytest.mark.parametrize("how", ["dies", "says that it failed"])
def test_a_transfer_of_which_only_the_decode_worker_knows_is_not_repeated(how: str) -> None:
    """The prefill worker never says that it handed over, but tokens come from the other side: they are enough."""

    async def check() -> None:
        async with scene(*PAIR) as stage:
            dies = how == "dies"
            stage.all[0].hand_delay_s, stage.all[0].fail_after_handing = 10 if dies else 0.05, not dies
            request = asyncio.create_task(stage.ask((1,), LONG, number=0))
            if dies:
                await stage.in_the_middle(1, request)
                stage.all[0].die()
            assert await request == whole_answer((1,), LONG)
            assert stage.coordinator.history.attempts([0]) == (1,)
            await stage.quiet()

    asyncio.run(check())


def test_a_decode_worker_that_dies_makes_the_request_begin_again_with_its_prefill() -> None:
    async def check() -> None:
        async with scene(*TWO_PHASES) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG))
            await stage.in_the_middle(1, request)
            stage.all[1].die()
            assert await request == whole_answer((1,), LONG)
            first, second = stage.all[0].submits
            assert first.id != second.id, "what the first attempt still says is not taken for the second's"
            assert len(second.emitted) >= 5
            assert second.decode_at is not None
            assert second.decode_at.replica == 2
            await stage.quiet()

    asyncio.run(check())


def test_nothing_is_told_twice_when_the_stale_attempt_runs_on() -> None:
    """The prefill worker's line is cut while the decode worker gets everything: both attempts give the same tokens."""

    async def check() -> None:
        async with scene([PREFILL, PREFILL, DECODE], [Flow(prefill=n, decode=2, share=0.5) for n in (0, 1)]) as stage:
            stage.all[0].step_s = stage.all[1].step_s = 0.1
            request = asyncio.create_task(stage.ask((1,), LONG))
            await stage.until(lambda: stage.all[0].submits)
            stage.all[0]._writer.transport.abort()  # it lives on, and hands over
            assert await request == whole_answer((1,), LONG)
            stale, taken = stage.all[2].arrived
            assert (stale.id, taken.id) == (stage.all[0].submits[0].id, stage.all[1].submits[0].id)
            # once when it was given up, and, as that came before the keys and values did, once more when it spoke
            await stage.until(lambda: stage.all[2].cancels.count(stale.id) >= 2)
            await stage.quiet()

    asyncio.run(check())


def test_a_request_that_kills_its_workers_is_given_up() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG))
            for death in range(QUICK.losses):
                await stage.until(lambda: stage.workers[0].tasks)
                stage.workers[0].die()
                await stage.until(lambda: not stage.coordinator.peers)
                if death < QUICK.losses - 1:
                    await stage.start(0)
            with pytest.raises(Unavailable, match=f"{QUICK.losses} workers died over it"):
                await request

    asyncio.run(check())


def test_nobody_is_suspected_while_the_coordinator_itself_is_held_up() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG, number=0))
            await stage.in_the_middle(0, request)
            time.sleep(2 * QUICK.silence_s)
            assert await request == whole_answer((1,), LONG)
            assert stage.coordinator.history.attempts([0]) == (1,)

    asyncio.run(check())


def test_a_request_waits_for_a_worker_to_come_and_no_longer_than_its_patience() -> None:
    async def check() -> None:
        async with scene(*ONE, start=False) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG))
            await stage.until(lambda: stage.coordinator.waiting == 1)
            await asyncio.sleep(QUICK.patience_s / 2)
            await stage.start(0)
            assert await request == whole_answer((1,), LONG)
            stage.all[0].die()
            await stage.until(lambda: not stage.coordinator.peers)
            start_s = time.monotonic()
            with pytest.raises(Unavailable, match=r"within 0\.4 s"):
                await stage.ask((1,), LONG)
            assert time.monotonic() - start_s >= QUICK.patience_s - 0.01
            assert stage.coordinator.waiting == stage.coordinator.live == 0

    asyncio.run(check())


def test_a_stream_stalls_until_the_worker_is_back() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG))
            await stage.in_the_middle(0, request)
            stage.all[0].die()
            await asyncio.sleep(QUICK.patience_s / 2)
            assert not request.done()
            await stage.start(0)
            assert await request == whole_answer((1,), LONG)

    asyncio.run(check())


def test_a_replica_that_says_hello_twice_has_been_restarted() -> None:
    async def check() -> None:
        async with scene(*ONE) as stage:
            request = asyncio.create_task(stage.ask((1,), LONG))
            await stage.in_the_middle(0, request)
            first = stage.all[0]
            await stage.start(0)
            assert await request == whole_answer((1,), LONG)
            await stage.until(lambda: first.stopped)
            first.die()
            await stage.quiet()

    asyncio.run(check())
