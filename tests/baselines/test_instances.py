"""Cutting identical cards into instances: nothing is used twice, stages stay on a node, and as many come out as can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.shared.instances import Shape, even_layers, groups, pack, place
from thunderserve.spec.cluster import Cluster, Device, DevicePair, Link, NodePair
from thunderserve.spec.gpu import Gpu

GPU = Gpu(
    name="A40", family="ampere-ga102", memory_bytes=48e9, memory_bytes_per_s=696e9, flops=1.5e14, price_per_hour=0.4
)
FAST, SLOW = Link(latency_s=1e-5, bytes_per_s=3e10), Link(latency_s=1e-3, bytes_per_s=1e9)


def cluster(sizes: list[int], bridges: tuple[tuple[int, int], ...] = ()) -> Cluster:
    nodes = [f"n{i}" for i in range(len(sizes))]
    owners = [node for node, size in zip(nodes, sizes, strict=True) for _ in range(size)]
    return Cluster(
        name="test",
        gpus={"A40": GPU},
        devices=tuple(Device(id=i, gpu="A40", node=node) for i, node in enumerate(owners)),
        inside=dict.fromkeys(nodes, FAST),
        bridges=tuple(DevicePair(first=a, second=b, link=FAST) for a, b in bridges),
        between=tuple(NodePair(source=a, target=b, link=SLOW) for a in nodes for b in nodes if a != b),
    )


@given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4))
def test_pack_is_disjoint_maximal_and_keeps_stages_on_a_node(sizes: list[int], tp: int, pp: int) -> None:
    made = cluster(sizes)
    packed = pack(made, Shape("A40", tp, pp))
    used = [device for stages in packed for stage in stages for device in stage]
    assert len(used) == len(set(used))
    assert len(packed) == sum(size // tp for size in sizes) // pp
    for stages in packed:
        assert [len(stage) for stage in stages] == [tp] * pp
        assert all(len({made.devices[device].node for device in stage}) == 1 for stage in stages)


def test_pack_fills_nodes_before_it_strings_over_them() -> None:
    packed = pack(cluster([6, 6]), Shape("A40", 2, 2))
    nodes = [{device // 6 for stage in stages for device in stage} for stages in packed]
    assert nodes == [{0}, {1}, {0, 1}]


def test_bridged_cards_stand_together() -> None:
    assert groups(cluster([4], bridges=((0, 2), (1, 3))), "A40") == [(0, 2, 1, 3)]


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=3), st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=6)
)
def test_place_uses_every_card_once_or_says_none(sizes: list[int], degrees: list[int]) -> None:
    wanted = [Shape("A40", tp, 1) for tp in degrees]
    placed = place(cluster(sizes), wanted)
    if placed is None:
        # Only what truly does not fit may be refused: with one stage each, largest first is optimal for powers of two.
        room = list(sizes)
        for tp in sorted(degrees, reverse=True):
            host = max(range(len(room)), key=lambda i: room[i])
            if room[host] < tp:
                return
            room[host] -= tp
        pytest.fail(f"{degrees} fit on {sizes}")
    used = [device for stages in placed for stage in stages for device in stage]
    assert len(used) == len(set(used)) == sum(degrees)


@given(st.integers(1, 100), st.integers(1, 10))
def test_even_layers(layers: int, stages: int) -> None:
    cut = even_layers(layers, stages)
    assert sum(cut) == layers
    assert max(cut) - min(cut) <= 1
