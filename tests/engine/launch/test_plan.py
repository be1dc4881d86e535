"""What workers are told, from a plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.engine.coordinator.dispatch import Way
from thunderserve.engine.launch.plan import Wishes, check, flows_of, options_of, role_of, share_cores, way_of
from thunderserve.engine.options import Rank, WorkerOptions
from thunderserve.spec.errors import SpecError
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.load import load_cluster
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage


def replica(phase: Phase, *stages: Sequence[int], layers: int = 3, policy: str = "chunked") -> Replica:
    batching = Batching(policy=policy, max_sequences=8, max_batched_tokens=300, saturation_tokens=700)  # type: ignore[arg-type]
    return Replica(
        stages=tuple(Stage(devices=tuple(devices), num_layers=layers) for devices in stages),
        phase=phase,
        batching=batching,
    )


def split(*ends: Replica) -> Plan:
    return Plan(system="by hand", replicas=ends, flows=(Flow(prefill=0, decode=1, share=1),))


PAIR = split(replica(Phase.PREFILL, [0], policy="saturation"), replica(Phase.DECODE, [1], policy="continuous"))


def test_a_degree_that_does_not_divide_the_kv_heads_is_refused_in_words(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    wide = split(PAIR.replicas[0], replica(Phase.DECODE, [1, 2, 3]))
    for heads in ({"num_key_value_heads": 3}, {"num_attention_heads": 6}):
        config.write_text(json.dumps({"num_hidden_layers": 3} | heads))
        check(wide, str(tmp_path))
    config.write_text(json.dumps({"num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2}))
    words = r"replicas\[1\].stages\[0\]: replica 1 has TP=3, PP=1, but 3 does not divide the model's 2 KV heads"
    with pytest.raises(SpecError, match=words):
        check(wide, str(tmp_path))


def test_a_replica_of_several_devices_has_a_rank_for_each() -> None:
    stages = (Stage(devices=(5, 2), num_layers=3), Stage(devices=(7,), num_layers=1))
    wide = PAIR.replicas[1].model_copy(update={"stages": stages})
    first, second = options_of(split(PAIR.replicas[0], wide), "m", Wishes(), ("h", 1), range(8))
    assert (first.ranks, first.cores) == ((), (0, 1))
    assert second.ranks == (
        Rank(0, 3, 0, 2, "cpu", 2, (2, 3)), Rank(0, 3, 1, 2, "cpu", 2, (4, 5)), Rank(3, 4, 0, 1, "cpu", 2, (6, 7)),
    )  # fmt: skip
    assert (second.cores, second.threads) == ((2, 3), 2)
    assert WorkerOptions.from_json(second.to_json()) == second
    _, on_cards = options_of(split(PAIR.replicas[0], wide), "m", Wishes(device="cuda"), ("h", 1), range(2))
    assert [(rank.device, rank.cores) for rank in on_cards.ranks] == [("cuda:5", ()), ("cuda:2", ()), ("cuda:7", ())]
    assert on_cards.device == "cuda:5"


def test_a_plan_for_another_model_is_refused_in_words(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"num_hidden_layers": 3}))
    check(PAIR, str(tmp_path))
    config.write_text(json.dumps({"text_config": {"num_hidden_layers": 26}}))
    with pytest.raises(SpecError, match="replica 0 holds 3 layers, but the model has 26"):
        check(PAIR, str(tmp_path))
    check(PAIR, "owner/model-of-a-hub")


def test_a_codec_that_nobody_has_is_refused() -> None:
    flow = Flow(prefill=0, decode=1, share=1, codec=KvCodec(name="int3", bits=3))
    with pytest.raises(SpecError, match=r"flows\[0\].codec: no such codec"):
        check(PAIR.model_copy(update={"flows": (flow,)}))
    for wrong in ({"codec": "int3"}, {"dtype": "float8"}, {"device": "tpu"}):
        with pytest.raises(SpecError, match="no such"):
            Wishes(**wrong)  # type: ignore[arg-type]
    assert [flow.codec.name for flow in flows_of(PAIR)] == ["raw"]
    assert [flow.codec.name for flow in flows_of(PAIR, "int4")] == ["int4"]


def test_a_worker_has_the_limits_of_its_replica() -> None:
    assert role_of(PAIR.replicas[0]) == ("prefill", "saturation", 8, 700)
    assert role_of(PAIR.replicas[1]) == ("decode", "continuous", 8, 300)
    first, second = options_of(PAIR, "m", Wishes(kv_bytes=5, max_context=77), ("h", 1), [4, 7])
    assert (first.replica, second.replica) == (0, 1)
    assert (first.cores, second.cores, first.threads) == ((4,), (7,), 1)
    assert (first.kv_bytes, first.max_context, first.block_tokens) == (5, 77, 16)
    on_cards = options_of(PAIR, "m", Wishes(device="cuda"), ("h", 1), [4, 7])
    assert [(one.device, one.cores) for one in on_cards] == [("cuda:0", ()), ("cuda:1", ())]


def test_only_the_links_between_nodes_are_imitated() -> None:
    cluster = load_cluster("cloud-8-a40-3090ti-5gbit")
    assert way_of(PAIR, None, 0, 1) == way_of(PAIR, cluster, 0, 1) == Way()
    far = split(PAIR.replicas[0], replica(Phase.DECODE, [4]))
    assert way_of(far, cluster, 0, 1) == Way(5e9 / 8, 1e-3)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 40))
def test_cores_are_shared_in_proportion_and_none_twice(devices: list[int], count: int) -> None:
    cores = range(100, 100 + count)
    shares = share_cores(devices, cores)
    assert all(shares)
    assert {core for share in shares for core in share} <= set(cores)
    if count >= sum(devices):
        assert len({core for share in shares for core in share}) == sum(map(len, shares))
        assert len({len(share) / wanted for share, wanted in zip(shares, devices, strict=True)}) == 1
        assert count - sum(map(len, shares)) < sum(devices), "no more is left over than cannot be shared"
    else:
        assert {len(share) for share in shares} == {1}
        assert len(set(shares)) == min(count, len(devices))
