from __future__ import annotations

import numpy as np
import pytest

from thunderserve.backend import Deployment
from thunderserve.cost.codec import CodecSpeed
from thunderserve.cost.codec_table import CodecTime, Measured, write_codec_times
from thunderserve.cost.memory import kv_blocks
from thunderserve.cost.network import kv_transfer
from thunderserve.cost.roofline import Roofline
from thunderserve.serving.records import Status
from thunderserve.simulator.backend import Simulated
from thunderserve.spec.kv import INT4, RAW
from thunderserve.spec.load import load_cluster, load_model
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage
from thunderserve.spec.trace import Trace

MODEL, CLUSTER = load_model("llama-7b"), load_cluster("cloud-8-a40-3090ti-5gbit")
LAYERS = MODEL.num_layers


def replica(device: int, phase: Phase, policy: str = "chunked", **batching) -> Replica:
    stage = Stage(devices=(device,), num_layers=LAYERS)
    return Replica(stages=(stage,), phase=phase, batching=Batching(policy=policy, **batching))


def split(codec=RAW) -> Plan:
    return Plan(
        system="test",
        replicas=(
            replica(0, Phase.PREFILL, "saturation"),
            replica(4, Phase.DECODE, "continuous"),
            replica(5, Phase.DECODE, "continuous"),
        ),
        flows=(Flow(prefill=0, decode=1, share=0.25, codec=codec), Flow(prefill=0, decode=2, share=0.75, codec=codec)),
    )


def colocated(router: str = "flows") -> Plan:
    replicas = (replica(0, Phase.BOTH), replica(4, Phase.BOTH))
    flows = (Flow(prefill=0, decode=0, share=0.5), Flow(prefill=1, decode=1, share=0.5))
    return Plan(system="test", replicas=replicas, flows=flows, router=router)


def trace(count: int = 200, rate_per_s: float = 1.0) -> Trace:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 600, (2, count))
    return Trace(np.cumsum(rng.exponential(1 / rate_per_s, count)), lengths[0], lengths[1])


def test_measured_codec_speeds_replace_the_assumption(tmp_path) -> None:
    """One request alone: only the seconds of encoding and decoding differ, by the ratio of the speeds."""
    rows = [
        CodecTime("int4", way, "any", 20e9 * share, 10e9, "here") for way, share in (("encode", 0.1), ("decode", 0.02))
    ]
    write_codec_times(tmp_path / "times.csv", rows)
    one = Trace(np.zeros(1), np.array([1000]), np.array([2]))
    plan = split(INT4)
    seen = {}
    for name, costs in (("assumed", Roofline()), ("measured", Roofline(codec_speed=Measured(tmp_path / "times.csv")))):
        records = Simulated(costs).serve(Deployment(plan, CLUSTER, MODEL), one).records
        speed = costs.codec_speed(INT4)
        transfer = kv_transfer(MODEL, plan.replicas[0], plan.replicas[2], CLUSTER, INT4, speed)
        assert records.transfer_s[0] == pytest.approx(transfer.seconds(1000), rel=1e-9)
        seen[name] = transfer.encode_s_per_token * speed.encode_share
    assert seen["assumed"] == pytest.approx(seen["measured"])
    assert Measured(tmp_path / "times.csv")(INT4) == CodecSpeed(encode_share=0.1, decode_share=0.02)


def test_a_split_plan_sends_kv_at_the_speed_of_the_network() -> None:
    plan, backend, requests = split(), Simulated(Roofline()), trace()
    records = backend.serve(Deployment(plan, CLUSTER, MODEL), requests).records
    assert records.finished.all()
    assert np.bincount(records.decode_replica, minlength=3).tolist() == [0, 50, 150]
    assert (records.prefill_replica == 0).all()
    moved = requests.output_tokens > 1
    assert np.isfinite(records.transfer_s).tolist() == moved.tolist()
    transfer = kv_transfer(MODEL, plan.replicas[0], plan.replicas[1], CLUSTER, RAW)
    alone = transfer.alpha_s + requests.prompt_tokens * transfer.s_per_token
    assert (records.transfer_s[moved] >= alone[moved] * (1 - 1e-9)).all()
    assert np.isclose(records.transfer_s[moved], alone[moved], rtol=1e-6).mean() > 0.5  # the others queued


def test_a_smaller_codec_makes_transfers_shorter() -> None:
    backend, requests = Simulated(Roofline()), trace()
    raw, packed = (backend.serve(Deployment(split(codec), CLUSTER, MODEL), requests).records for codec in (RAW, INT4))
    assert np.nanmedian(packed.transfer_s) < 0.6 * np.nanmedian(raw.transfer_s)


@pytest.mark.parametrize("router", ["flows", "join_shortest_queue", "least_kv"])
def test_every_router_serves_all_and_repeats_bit_for_bit(router: str) -> None:
    deployment, requests = Deployment(colocated(router), CLUSTER, MODEL), trace(400, 4.0)
    first, second = (Simulated(Roofline()).serve(deployment, requests).records for _ in range(2))
    assert first.finished.all()
    assert first.finish_s.tobytes() == second.finish_s.tobytes()
    assert (first.prefill_replica == first.decode_replica).all()
    assert 0.2 < (first.prefill_replica == 0).mean() < 0.8
    assert np.isnan(first.transfer_s).all()


def test_a_request_too_long_for_every_replica_is_rejected() -> None:
    requests = Trace(np.zeros(2), np.array([100, 10**6]), np.array([10, 10]))
    records = Simulated(Roofline()).serve(Deployment(colocated(), CLUSTER, MODEL), requests).records
    assert records.status.tolist() == [Status.FINISHED, Status.REJECTED]
    assert records.prefill_replica.tolist() == [0, -1]


def test_series_and_counters_on_request() -> None:
    plan, requests = colocated(), trace()
    backend = Simulated(Roofline())
    plain = backend.serve(Deployment(plan, CLUSTER, MODEL), requests)
    recorded = backend.serve(Deployment(plan, CLUSTER, MODEL), requests, series=True)
    assert plain.series == ()
    assert len(recorded.series) == 2
    assert recorded.records.finish_s.tobytes() == plain.records.finish_s.tobytes()
    assert recorded.counters == plain.counters
    for index, series in enumerate(recorded.series):
        assert (np.diff(series.time_s) >= 0).all()
        assert series.kv_blocks_used[-1] == 0
        assert 0 < series.kv_blocks_used.max() <= kv_blocks(MODEL, plan.replicas[index], CLUSTER)
    tokens = sum(series.step_tokens.sum() for series in recorded.series)
    assert tokens == (requests.prompt_tokens + requests.output_tokens - 1).sum()


def test_a_plan_that_cannot_run_is_refused_in_words() -> None:
    large = load_model("llama-30b")
    plan = Plan(
        system="test",
        replicas=(
            Replica(
                stages=(Stage(devices=(0, 1), num_layers=large.num_layers),),
                phase=Phase.BOTH,
                batching=Batching(policy="chunked", max_batched_tokens=200_000),
            ),
        ),
        flows=(Flow(prefill=0, decode=0, share=1),),
    )
    with pytest.raises(ValueError, match="short"):
        Simulated(Roofline()).serve(Deployment(plan, CLUSTER, large), trace(3))
