"""What clients get while all is well."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from plain_worker import whole_answer
from scene import BOTH, QUICK, TWO_ALIKE, TWO_PHASES, scene

from thunderserve.engine.coordinator.dispatch import Way
from thunderserve.engine.front.contract import TooLong, Unavailable
from thunderserve.engine.messages import Sampling
from thunderserve.spec.plan import Flow

TEN = Sampling(10, seed=3)


@pytest.mark.parametrize("plan", [TWO_ALIKE, TWO_PHASES], ids=["colocated", "two phases"])
def test_an_answer_is_what_the_workers_compute(plan: object) -> None:
    async def check() -> None:
        async with scene(*plan) as stage:  # type: ignore[misc]
            answers = await asyncio.gather(*(stage.ask((1, 2, n), TEN) for n in range(20)))
            assert answers == [whole_answer((1, 2, n), TEN) for n in range(20)]
            stopping = TEN._replace(stop_tokens=(answers[0][4],))
            assert await stage.ask((1, 2, 0), stopping) == answers[0][: answers[0].index(answers[0][4]) + 1]
            await stage.quiet()

    asyncio.run(check())


def test_the_shares_of_the_flows_are_kept_exactly() -> None:
    async def check() -> None:
        flows = [Flow(prefill=n, decode=n, share=share) for n, share in enumerate((0.5, 0.3, 0.2))]
        async with scene([BOTH] * 3, flows) as stage:
            for n in range(100):
                await stage.ask((n,), Sampling(1))
            assert [len(worker.submits) for worker in stage.all] == [50, 30, 20]

    asyncio.run(check())


def test_the_share_of_a_dead_worker_goes_to_the_others_in_proportion_and_comes_back_with_it() -> None:
    async def check() -> None:
        flows = [Flow(prefill=n, decode=n, share=share) for n, share in enumerate((0.6, 0.3, 0.1))]
        async with scene([BOTH] * 3, flows) as stage:
            stage.all[0].die()
            await stage.until(lambda: len(stage.coordinator.peers) == 2)
            assert stage.coordinator.health()["status"] == "degraded"
            for n in range(40):
                await stage.ask((n,), Sampling(1))
            assert [len(worker.submits) for worker in stage.all] == [0, 30, 10]
            await stage.start(0)
            assert stage.coordinator.health()["status"] == "ok"
            for n in range(10):
                await stage.ask((n,), Sampling(1))
            assert [len(worker.submits) for worker in stage.all] == [0, 33, 11, 6]

    asyncio.run(check())


def test_the_shortest_queue_is_the_one_with_fewest_unfinished_requests() -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE, router="join_shortest_queue") as stage:
            stage.all[0].step_s = 0.5
            first = asyncio.create_task(stage.ask((1,), Sampling(2)))
            await stage.until(lambda: stage.all[0].tasks)
            for n in range(5):
                await stage.ask((n,), Sampling(1))
            assert [len(worker.submits) for worker in stage.all] == [1, 5]
            await first

    asyncio.run(check())


def test_a_transfer_goes_where_the_flow_says_with_its_codec_over_its_link() -> None:
    async def check() -> None:
        async with scene(*TWO_PHASES, way=lambda a, b: Way(1e6 * (1 + a), 0.01 * b)) as stage:
            await asyncio.gather(*(stage.ask((n,), TEN) for n in range(4)))
            targets = [one.decode_at for one in stage.all[0].submits]
            assert Counter(target.replica for target in targets) == {1: 2, 2: 2}
            for target in targets:
                peer = stage.coordinator.peers[target.replica]
                assert (target.host, target.port) == (peer.hello.host, peer.hello.port)
                assert target[3:] == ("int4", 64, 1e6, 0.01 * target.replica)
            await stage.ask((5,), Sampling(1))
            assert stage.all[0].submits[-1].decode_at is None, "one token needs no decode worker"

    asyncio.run(check())


def test_tokens_that_overtake_the_first_one_wait_for_it() -> None:
    async def check() -> None:
        async with scene(*TWO_PHASES) as stage:
            stage.all[0].late_s = 0.15  # decode workers say all of theirs before
            assert await stage.ask((7,), TEN) == whole_answer((7,), TEN)
            await stage.quiet()

    asyncio.run(check())


def test_a_request_that_no_worker_can_hold_is_refused_at_once() -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE, start=False) as stage:
            await stage.start(0, blocks=10, max_context=4096)
            await stage.start(1, blocks=1000, max_context=100)
            assert stage.coordinator.max_context == 4096
            for prompt, output in ((155, 10), (90, 200), (0, 5), (5, 0)):
                with pytest.raises(TooLong):
                    await stage.ask(range(prompt), Sampling(output))
            for prompt, output in ((80, 20), (80, 81)):
                await stage.ask(range(prompt), Sampling(output))
            took = [{len(one.prompt) + one.sampling.max_tokens for one in worker.submits} for worker in stage.all]
            assert took[0] | took[1] == {100, 161}
            assert 161 in took[0], "the other one's context is too short"

    asyncio.run(check())


def test_closing_an_answer_cancels_it_at_every_worker() -> None:
    async def check() -> None:
        async with scene(*TWO_PHASES) as stage:
            stage.all[0].hand_delay_s = 10  # the prefill worker holds it still
            answer = stage.coordinator.generate((1,), Sampling(1000))
            async for token in answer:
                if token.place == 5:
                    break
            await answer.aclose()
            (id_,) = {one.id for one in stage.all[0].submits}
            await stage.until(lambda: stage.all[0].cancels == [id_])
            await stage.until(lambda: [id_] in [worker.cancels for worker in stage.all[1:]])
            await stage.quiet()
            assert stage.coordinator.history.outcomes == {"cancelled": 1}

    asyncio.run(check())


def test_records_hold_what_happened_in_the_order_of_the_trace() -> None:
    async def check() -> None:
        async with scene(*TWO_PHASES) as stage:
            stage.all[0].hand_delay_s = 0.01
            await asyncio.gather(*(stage.ask((1, 2, 3)[: n + 1], Sampling(4 + n), number=n) for n in range(3)))
            await stage.quiet()
            with pytest.raises(TooLong):
                await stage.ask((1,), Sampling(10**6), number=3)
            found = stage.coordinator.history.records([2, 0, 3, 99])
            assert found.status.tolist() == [0, 0, 1, 2]
            assert found.prompt_tokens.tolist() == [3, 1, 1, 0]
            assert found.output_tokens.tolist() == [6, 4, 0, 0]
            assert found.prefill_replica.tolist() == [0, 0, -1, -1]
            assert set(found.decode_replica[:2].tolist()) <= {1, 2}
            order = ("arrival_s", "prefill_start_s", "first_token_s", "transfer_start_s", "transfer_end_s")
            for before, after in pairwise(order):
                assert (getattr(found, before)[:2] <= getattr(found, after)[:2]).all(), (before, after)
            assert (found.finish_s[:2] > found.first_token_s[:2]).all()
            assert stage.coordinator.history.attempts([2, 0, 3, 99]) == (1, 1, 0, 0)

    asyncio.run(check())


def test_records_without_a_number_are_bounded() -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE, settings=replace(QUICK, kept=5)) as stage:
            for n in range(12):
                await stage.ask((n,), Sampling(1), number=n if n < 3 else None)
            assert len(stage.coordinator.history.recent()) == 5
            assert stage.coordinator.history.records(range(3)).finished.all()

    asyncio.run(check())


def test_metrics_are_whole_and_labelled_by_worker() -> None:
    async def check() -> None:
        async with scene(*TWO_PHASES) as stage:
            await stage.ask((1,), TEN)
            await stage.until(lambda: all(peer.before for peer in stage.coordinator.peers))
            found = list(stage.coordinator.metrics())
            names = [name for name, *_ in found]
            assert len(names) - len(set(names)) == sum(a == b for a, b in pairwise(names)), "one name, one group"
            alive = [
                (labels["replica"], labels["phase"], value) for name, _, _, labels, value in found if "alive" in name
            ]
            assert alive == [("0", "prefill", 1.0), ("1", "decode", 1.0), ("2", "decode", 1.0)]
            assert ("thunderserve_told_tokens_total", 10.0) in [(name, value) for name, *_, value in found]

    asyncio.run(check())


def test_closing_the_coordinator_ends_workers_and_answers() -> None:
    async def check() -> None:
        async with scene(*TWO_ALIKE) as stage:
            running = asyncio.create_task(stage.ask((1,), Sampling(1000)))
            await stage.until(lambda: any(worker.tasks for worker in stage.all))
            await stage.coordinator.close()
            with pytest.raises(Unavailable, match="shut down"):
                await running
            await stage.until(lambda: all(worker.stopped for worker in stage.all))
            with pytest.raises(Unavailable):
                await stage.ask((1,), TEN)

    asyncio.run(check())
