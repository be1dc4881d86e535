"""The batcher driven from Python, one step at a time, as an engine drives it."""

from __future__ import annotations

import numpy as np
import pytest

from thunderserve.serving.batcher import complete, schedule
from thunderserve.serving.lists import push_back
from thunderserve.serving.pool import Limits, Pool, empty_pool, new_requests


def pool_of(limits: Limits, prompts: list[int], outputs: list[int]) -> Pool:
    """One replica at which all requests wait."""
    requests = new_requests(len(prompts))
    requests["prompt_tokens"], requests["output_tokens"] = prompts, outputs
    pool = empty_pool([limits], requests)
    for request in range(len(prompts)):
        push_back(pool.replicas[0]["waiting"], pool.requests, request)
    return pool


def step(pool: Pool, now: float) -> tuple[int, int, int]:
    """One engine step: (sequences that decode, sequences in prefill, prefill tokens)."""
    lane = pool.lanes[0]
    if schedule(pool, 0, lane, now, 1) == 0:
        return 0, 0, 0
    batch = int(lane["batch_decodes"]), int(lane["batch_chunks"]), int(lane["batch_tokens"])
    complete(pool, 0, lane, now + 1)
    return batch


def steps(pool: Pool, most: int = 1000) -> list[tuple[int, int, int]]:
    made = []
    for now in range(most):
        made.append(step(pool, float(now)))
        if made[-1] == (0, 0, 0):
            return made[:-1]
    raise AssertionError("never idle")


ROOMY = Limits(
    chunked=False, stages=1, block_tokens=4, blocks=100, watermark_blocks=1, max_sequences=3, max_batched_tokens=32
)


def test_whole_prompts_go_first_and_are_packed_in_order() -> None:
    pool = pool_of(ROOMY, [10, 20, 9, 40], [3, 2, 2, 1])
    assert steps(pool) == [
        (0, 2, 30),  # the third does not fit into 32 tokens
        (0, 1, 9),
        (3, 0, 0),  # the second and third end; three sequences is the limit, so the fourth waits
        (0, 1, 40),  # longer than a batch: alone
        (1, 0, 0),
    ]
    assert pool.requests["finish_s"].tolist() == [5, 3, 3, 4]
    assert pool.requests["first_token_s"].tolist() == [1, 1, 2, 4]
    assert pool.replicas["free"].tolist() == [100]


def test_chunks_fill_what_the_decodes_leave() -> None:
    pool = pool_of(ROOMY._replace(chunked=True, max_batched_tokens=16), [10, 20, 3], [4, 2, 2])
    assert steps(pool) == [
        (0, 2, 16),  # 10 and the first 6 of 20
        (1, 2, 15),  # one decodes; of the 15 tokens left the second takes its last 14, the third its first
        (2, 1, 2),
        (2, 0, 0),
    ]
    assert (pool.requests["status"] == 0).all()


def test_the_latest_admitted_is_preempted_and_computed_anew() -> None:
    limits = ROOMY._replace(blocks=7, watermark_blocks=0)
    pool = pool_of(limits, [8, 8], [12, 12])  # two prompts hold 4 blocks, each needs 5 at its end
    made = steps(pool)
    assert made[0] == (0, 2, 16)
    rows = pool.requests
    assert rows["preemptions"].tolist() == [0, 1]
    # both decode until 7 blocks are full: 12 tokens each in cache, 6 blocks; the first takes the seventh
    assert made[1:6] == [(2, 0, 0)] * 4 + [(1, 0, 0)]
    recomputed = next(batch for batch in made[1:] if batch[1])
    assert recomputed == (0, 1, 8 + 5)  # its prompt and the five tokens it had emitted
    assert rows["first_token_s"].tolist() == [1, 1]
    assert (rows["status"] == 0).all()
    assert pool.replicas["free"].tolist() == [7]


def test_the_watermark_holds_admission_back() -> None:
    pool = pool_of(ROOMY._replace(blocks=5, watermark_blocks=2), [8, 8], [2, 2])
    assert steps(pool) == [(0, 1, 8), (1, 0, 0), (0, 1, 8), (1, 0, 0)]


def test_a_decode_batch_says_how_long_it_can_run_unchanged() -> None:
    pool = pool_of(ROOMY, [4, 4], [9, 30])
    lane = pool.lanes[0]
    assert schedule(pool, 0, lane, 0.0, 1000) == 1  # prefill
    complete(pool, 0, lane, 1.0)
    assert schedule(pool, 0, lane, 1.0, 1000) == 8  # to the end of the first
    assert pool.replicas["free"][0] == 100 - 2 * 3  # 12 tokens each at its end
    complete(pool, 0, lane, 9.0)
    assert pool.requests["finish_s"][0] == 9.0
    assert schedule(pool, 0, lane, 9.0, 5) == 5  # as many as were asked for


def test_blocks_bound_how_long_a_batch_can_run() -> None:
    pool = pool_of(ROOMY._replace(blocks=5, watermark_blocks=0), [4, 3], [30, 30])
    lane = pool.lanes[0]
    schedule(pool, 0, lane, 0.0, 1000)
    complete(pool, 0, lane, 1.0)
    # 3 blocks are left: the first request takes one at step 1, the second at step 2, the first again at step 5
    assert schedule(pool, 0, lane, 1.0, 1000) == 5
    assert pool.replicas["free"][0] == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_all_tokens_are_computed_once(chunked: bool) -> None:
    rng = np.random.default_rng(3)
    prompts, outputs = rng.integers(1, 50, 40).tolist(), rng.integers(1, 30, 40).tolist()
    pool = pool_of(ROOMY._replace(chunked=chunked), prompts, outputs)
    made = steps(pool)
    assert sum(decodes + tokens for decodes, _, tokens in made) == sum(prompts) + sum(outputs) - 40
    assert max(decodes + chunks for decodes, chunks, _ in made) <= 3
    if chunked:
        assert max(decodes + tokens for decodes, _, tokens in made) <= 32
