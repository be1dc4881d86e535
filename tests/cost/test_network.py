"""Messages by hand: collectives, hops, and the KV of a whole prompt."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.cost import network
from thunderserve.cost.network import Route, all_reduce_s, kv_transfer, shard_pairs
from thunderserve.spec.catalogue import find
from thunderserve.spec.cluster import Cluster, Device, DevicePair, Link, NodePair
from thunderserve.spec.document import load
from thunderserve.spec.gpu import GpuFile
from thunderserve.spec.kv import INT4, RAW
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

LLAMA = load(ModelSpec, find("models", "llama-30b"))
GQA = load(ModelSpec, find("models", "llama-2-70b"))
A40 = load(GpuFile, find("gpus", "a40")).gpu("datasheet")
BATCHING = Batching(policy="continuous")


def two_nodes(per_node: int = 4, gbit: float = 40, bridges: tuple[DevicePair, ...] = ()) -> Cluster:
    """Two nodes of A40s, joined by ``gbit`` Gbit/s with 1 ms."""
    wire = Link(latency_s=1e-3, bytes_per_s=gbit * 1e9 / 8)
    return Cluster(
        name="two",
        gpus={"A40": A40},
        devices=tuple(Device(id=i, gpu="A40", node="a" if i < per_node else "b") for i in range(2 * per_node)),
        inside={node: Link(latency_s=1e-5, bytes_per_s=32e9) for node in "ab"},
        bridges=bridges,
        between=(NodePair(source="a", target="b", link=wire), NodePair(source="b", target="a", link=wire)),
    )


def replica(*stages: tuple[tuple[int, ...], int], phase: Phase = Phase.PREFILL) -> Replica:
    """Stages given as (devices, layers)."""
    return Replica(stages=tuple(Stage(devices=d, num_layers=n) for d, n in stages), phase=phase, batching=BATCHING)


def test_ring_tree_and_shots_by_hand():
    path = Route(latency_s=10e-6, bytes_per_s=10e9)
    large, small = 100e6, 1e3
    assert all_reduce_s(1, large, path, switched=True) == 0
    assert all_reduce_s(4, large, path, switched=False) == pytest.approx(6 * (10e-6 + 25e6 / 10e9))  # ring
    assert all_reduce_s(4, small, path, switched=False) == pytest.approx(4 * (10e-6 + 1e-7))  # tree
    assert all_reduce_s(8, small, path, switched=True) == pytest.approx(10e-6 + 7e-7)  # one shot
    assert all_reduce_s(8, large, path, switched=True) == pytest.approx(20e-6 + 1.75 * 100e6 / 10e9)  # two shots


@given(st.integers(2, 16), st.floats(1, 1e9), st.floats(1, 4), st.booleans())
def test_more_bytes_are_never_faster_and_more_bandwidth_never_slower(devices, size, factor, switched):
    slow, fast = Route(1e-5, 1e9), Route(1e-5, 1e9 * factor)
    seconds = all_reduce_s(devices, size, slow, switched=switched)
    assert all_reduce_s(devices, size * factor, slow, switched=switched) >= seconds
    assert all_reduce_s(devices, size, fast, switched=switched) <= seconds


def test_a_stage_goes_at_the_pace_of_its_slowest_link():
    cluster, sizes = two_nodes(), np.array([1e6])
    across = network.stage_all_reduce_s(cluster, Stage(devices=(0, 4), num_layers=1), sizes)
    assert across[0] == pytest.approx(1e-3 + 1e6 / 5e9)  # two cards: one shot over the network
    inside = network.stage_all_reduce_s(cluster, Stage(devices=(0, 1), num_layers=1), sizes)
    assert inside[0] == pytest.approx(1e-5 + 1e6 / (32e9 * network.COLLECTIVE_SHARES["pcie"]))


def test_a_bridge_is_nvlink():
    bridge = DevicePair(first=0, second=1, link=Link(latency_s=5e-6, bytes_per_s=56.25e9))
    cluster = two_nodes(bridges=(bridge,))
    kinds = [network.link_kind(cluster, a, b) for a, b in ((0, 1), (1, 0), (0, 2), (0, 4))]
    assert kinds == ["nvlink", "nvlink", "pcie", "network"]


def test_a_hop_takes_the_fastest_link_between_two_stages():
    path = network.hop(two_nodes(), LLAMA, Stage(devices=(0, 3), num_layers=30), Stage(devices=(2, 4), num_layers=30))
    assert path == Route(1e-5, 32e9 * network.POINT_TO_POINT_SHARES["pcie"])


def test_kv_of_1024_tokens_of_llama_30b_at_40_gbit():
    # 2 x 60 layers x 6656 x 2 bytes = 1,597,440 bytes a token; 1.636 GB in 0.327 s (the per-layer formula times the layers)
    transfer = kv_transfer(LLAMA, replica(((0, 1), 60)), replica(((4, 5), 60)), two_nodes(), RAW)
    assert transfer.bytes_per_token == 1_597_440
    assert transfer.seconds(1024) == pytest.approx(1e-3 + 0.32715, rel=1e-4)
    assert transfer.links == (("a", "b"),)
    assert transfer.link_s_per_token == pytest.approx([1_597_440 / 5e9])


def test_the_paper_s_584_ms_are_1828_tokens():
    """The paper's KV-transfer table (second-hand): 584 ms at 40 Gbit/s and 16 bit."""
    transfer = kv_transfer(LLAMA, replica(((0, 1), 60)), replica(((4, 5), 60)), two_nodes(), RAW)
    assert transfer.seconds(1828) == pytest.approx(0.584, rel=0.01)


def test_four_bit_with_scales_sends_four_and_a_half():
    pair = replica(((0, 1), 60)), replica(((4, 5), 60))
    raw, packed = (kv_transfer(LLAMA, *pair, two_nodes(), codec) for codec in (RAW, INT4))
    assert packed.bytes_per_token / raw.bytes_per_token == pytest.approx(4.5 / 16)
    assert packed.wire_s_per_token / raw.wire_s_per_token == pytest.approx(4.5 / 16)
    assert (raw.encode_s_per_token, raw.decode_s_per_token) == (0, 0)
    assert packed.seconds(1000) == pytest.approx(packed.alpha_s + 1000 * packed.s_per_token)


def test_codec_time_is_the_paper_s():
    """The paper's KV-transfer table (second-hand): about 14 ms to encode 1,828 tokens on 2 x A40."""
    transfer = kv_transfer(LLAMA, replica(((0, 1), 60)), replica(((4, 5), 60)), two_nodes(), INT4)
    assert transfer.encode_s_per_token * 1828 == pytest.approx(14e-3, rel=0.1)


def test_one_node_pair_is_one_wire_however_many_cards_share_it():
    """TP 4 x PP 2 to TP 2: all bytes cross the same wire, each once."""
    cluster = two_nodes(8)
    wide = replica(((0, 1, 2, 3), 20), ((4, 5, 6, 7), 40))
    transfer = kv_transfer(LLAMA, wide, replica(((8, 9), 60)), cluster, RAW)
    assert transfer.links == (("a", "b"),)
    assert transfer.bytes_per_token == pytest.approx(1_597_440)


def test_shards_inside_a_node_travel_in_parallel():
    cluster = two_nodes()
    transfer = kv_transfer(LLAMA, replica(((0, 1), 60)), replica(((2, 3), 60)), cluster, RAW)
    assert len(transfer.links) == 2
    assert transfer.wire_s_per_token == pytest.approx(1_597_440 / 2 / 16e9)


def test_stages_send_only_the_layers_both_hold():
    """Prefill 20 + 40, decode 30 + 30: 20 and 10 layers to the first, 30 to the second."""
    cluster = two_nodes()
    transfer = kv_transfer(LLAMA, replica(((0,), 20), ((1,), 40)), replica(((2,), 30), ((3,), 30)), cluster, RAW)
    per_layer = 1_597_440 / 60
    load = dict(zip(transfer.links, transfer.link_s_per_token, strict=True))
    assert load == pytest.approx(
        {
            ("a/0", "a/2"): 20 * per_layer / 16e9,
            ("a/1", "a/2"): 10 * per_layer / 16e9,
            ("a/1", "a/3"): 30 * per_layer / 16e9,
        }
    )


def test_a_replica_that_keeps_its_kv_sends_nothing():
    same = replica(((0, 1), 60), phase=Phase.BOTH)
    transfer = kv_transfer(LLAMA, same, same, two_nodes(), RAW)
    assert (transfer.seconds(1000), transfer.links) == (0, ())


def test_more_cards_than_kv_heads_hold_copies_and_each_receiver_is_served():
    """Llama-2-70B has 8 KV heads; TP 16 holds each twice."""
    cluster = two_nodes(16)
    transfer = kv_transfer(GQA, replica((tuple(range(16)), 80)), replica((tuple(range(16, 32)), 80)), cluster, RAW)
    assert transfer.bytes_per_token == pytest.approx(2 * GQA.kv_bytes_per_token())


@given(st.integers(1, 16), st.integers(1, 16), st.sampled_from([1, 2, 4, 5, 8, 52]))
def test_every_receiver_gets_all_its_heads_once(senders, receivers, heads):
    source = Stage(devices=tuple(range(senders)), num_layers=1)
    target = Stage(devices=tuple(range(100, 100 + receivers)), num_layers=1)
    got = dict.fromkeys(target.devices, 0.0)
    for sender, receiver, count in shard_pairs(source, target, heads):
        assert sender in source.devices
        got[receiver] += count
    wanted = max(heads / receivers, 1.0)
    assert all(math.isclose(total, wanted, rel_tol=1e-9) for total in got.values())
