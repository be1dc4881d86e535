"""One request alone, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from thunderserve.cost.step_table import StepTable
from thunderserve.serving.pool import Limits
from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup

FIXED, TOKEN, LOGIT, KEY, CHUNK, PAIR, HOP, HOP_TOKEN = 1e-2, 3e-5, 7e-4, 2e-7, 5e-4, 1e-9, 2e-3, 4e-6


def table(stages: int = 1) -> StepTable:
    """Every stage the same, all terms linear; the LM head in the last stage."""
    head = np.zeros((stages, 2))
    head[-1] = [LOGIT, 9 * LOGIT]
    keys = np.array([1, 1001, 5001])
    last = np.append(np.ones(stages - 1), 0.0)
    return StepTable(
        fixed_s=np.full(stages, FIXED),
        token_knots=np.array([1, 4097]),
        token_s=np.tile([TOKEN, 4097 * TOKEN], (stages, 1)),
        logit_knots=np.array([1, 9]),
        logit_s=head,
        batch_knots=np.array([1, 8]),
        context_knots=keys,
        decode_s=np.tile(keys * KEY, (stages, 2, 1)),
        chunk_knots=np.array([1, 4097]),
        pair_s=np.full((stages, 2), PAIR),
        chunk_s=np.full(stages, CHUNK),
        hop_s=HOP * last,
        hop_s_per_token=HOP_TOKEN * last,
    )


def limits(**changes) -> Limits:
    return Limits(False, 1, 16, 1000, 10, 8, 4096)._replace(**changes)


def prefill(tokens: int, done: int = 0) -> float:
    """One stage, without the LM head."""
    return FIXED + TOKEN * tokens + CHUNK + PAIR * (tokens * done + tokens * (tokens + 1) / 2)


def decode(context: int) -> float:
    return FIXED + TOKEN + KEY * context


def alone(fleet: Fleet, prompt: int, output: int):
    (row,) = fleet.run(np.array([3.0]), np.array([prompt]), np.array([output])).requests
    assert row["arrival_s"] == row["prefill_start_s"] == 3.0
    return row["first_token_s"] - 3.0, row["finish_s"] - 3.0, row


def test_colocated_whole_prompt() -> None:
    first, last, _ = alone(Fleet([ReplicaSetup(table(), limits())], [RouteSetup(0, 0)]), 900, 300)
    assert first == pytest.approx(prefill(900) + LOGIT, rel=1e-12)
    rest = sum(decode(900 + j) + LOGIT for j in range(1, 300))
    assert last == pytest.approx(first + rest, rel=1e-12)


def test_chunked_prefill_pays_for_every_chunk_and_samples_once() -> None:
    setup = ReplicaSetup(table(), limits(chunked=True, max_batched_tokens=256))
    first, last, _ = alone(Fleet([setup], [RouteSetup(0, 0)]), 900, 5)
    chunks = prefill(256) + prefill(256, 256) + prefill(256, 512) + prefill(132, 768)
    assert first == pytest.approx(chunks + LOGIT, rel=1e-12)
    assert last == pytest.approx(first + sum(decode(900 + j) + LOGIT for j in range(1, 5)), rel=1e-12)


def test_two_stages_in_a_row_with_a_hop() -> None:
    setup = ReplicaSetup(table(2), limits(stages=2))
    first, last, _ = alone(Fleet([setup], [RouteSetup(0, 0)]), 900, 300)
    assert first == pytest.approx(2 * prefill(900) + LOGIT + HOP + 900 * HOP_TOKEN, rel=1e-12)
    rest = sum(2 * decode(900 + j) + LOGIT + HOP + HOP_TOKEN for j in range(1, 300))
    assert last == pytest.approx(first + rest, rel=1e-12)


def test_split_with_a_transfer_over_two_links() -> None:
    route = RouteSetup(
        1, 0, links=(0, 1), alpha_s=5e-3, s_per_token=1e-5, encode_s_per_token=2e-6, decode_s_per_token=3e-6
    )
    setup = ReplicaSetup(table(), limits())
    first, last, row = alone(Fleet([setup, setup], [route], links=2), 900, 300)
    assert first == pytest.approx(prefill(900) + LOGIT, rel=1e-12)
    assert row["transfer_start_s"] == row["first_token_s"]
    transfer = 900 * (2e-6 + 1e-5 + 3e-6) + 5e-3
    assert row["transfer_end_s"] - row["transfer_start_s"] == pytest.approx(transfer, rel=1e-12)
    rest = sum(decode(900 + j) + LOGIT for j in range(1, 300))
    assert last == pytest.approx(first + transfer + rest, rel=1e-12)


@pytest.mark.parametrize(("s_per_token", "bound"), [(1e-3, "wire"), (1e-7, "prefill")])
def test_layers_leave_while_the_prompt_is_computed(s_per_token: float, bound: str) -> None:
    route = RouteSetup(
        1,
        0,
        links=(0,),
        alpha_s=5e-3,
        s_per_token=s_per_token,
        encode_s_per_token=2e-6,
        decode_s_per_token=3e-6,
        layers=10,
    )
    setup = ReplicaSetup(table(), limits())
    first, last, row = alone(Fleet([setup, setup], [route], links=1), 900, 300)
    encode, wire, decode_s = 900 * 2e-6, 900 * s_per_token, 900 * 3e-6
    begin = first / 10 + encode / 10
    end = {"wire": begin + 5e-3 + wire, "prefill": first + encode / 10 + 5e-3 + wire / 10}[bound]
    assert row["transfer_start_s"] - 3.0 == pytest.approx(begin, rel=1e-9)
    assert row["transfer_end_s"] - 3.0 == pytest.approx(end + decode_s / 10, rel=1e-9)
    rest = sum(decode(900 + j) + LOGIT for j in range(1, 300))
    assert last == pytest.approx(end + decode_s / 10 + rest, rel=1e-12)


def test_a_single_token_ends_with_its_prefill_and_never_travels() -> None:
    setup = ReplicaSetup(table(), limits())
    first, last, row = alone(Fleet([setup, setup], [RouteSetup(0, 1)]), 900, 1)
    assert first == last == pytest.approx(prefill(900) + LOGIT, rel=1e-12)
    assert np.isnan(row["transfer_start_s"])


def test_two_transfers_over_one_link_queue_and_over_two_do_not() -> None:
    setup = ReplicaSetup(table(), limits())
    for shared in (True, False):
        routes = [RouteSetup(i, 2, links=(0 if shared else i,), s_per_token=1e-3) for i in (0, 1)]
        rows = Fleet([setup] * 3, routes, links=2).run(np.zeros(2), np.array([100, 100]), np.array([2, 2])).requests
        ends = np.sort(rows["transfer_end_s"]) - rows["transfer_start_s"][0]
        assert ends == pytest.approx([0.1, 0.2 if shared else 0.1], rel=1e-9)
