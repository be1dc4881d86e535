"""Random clusters: of the size asked for, from the types asked for, the same for a seed, and as varied as they claim."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.spec.errors import SpecError
from thunderserve.spec.generate import random_cluster
from thunderserve.spec.load import load_cluster


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 48),
    st.integers(0, 2**31),
    st.lists(st.sampled_from(["a40", "l4", "t4", "h100"]), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
)
def test_any_random_cluster_is_whole(devices, seed, types, sizes):
    cluster = random_cluster(devices, seed, types=types, node_sizes=sizes)
    assert len(cluster.devices) == devices
    assert set(cluster.gpus) <= {"A40", "L4", "T4", "H100"}
    assert cluster == random_cluster(devices, seed, types=types, node_sizes=sizes)
    for source in (0, devices - 1):
        for target in range(devices):
            assert source == target or cluster.link(source, target).bytes_per_s > 0


def test_another_seed_is_another_cluster():
    assert len({random_cluster(16, seed).model_dump_json() for seed in range(20)}) == 20


def test_types_and_bridges_come_up_as_often_as_they_should():
    clusters = [random_cluster(8, seed, node_sizes=(2,)) for seed in range(300)]
    kinds = [cluster.gpu(device).name for cluster in clusters for device in (0, 2, 4, 6)]
    bridged = sum(len(cluster.bridges) for cluster in clusters) / len(kinds)
    # 1,200 nodes: four standard errors of a share.
    for kind in ("A6000", "A5000", "A40", "3090Ti"):
        assert kinds.count(kind) / len(kinds) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 1200) ** 0.5)
    assert bridged == pytest.approx(0.5, abs=4 * (0.25 / 1200) ** 0.5)


def test_the_yaml_form_says_the_same():
    drawn = load_cluster({"name": "random-12-seed7", "random": {"devices": 12, "seed": 7}})
    assert drawn == random_cluster(12, 7)


def test_golden():
    assert [device.gpu for device in random_cluster(8, 0).devices] == [
        "3090Ti",
        "3090Ti",
        "A5000",
        "3090Ti",
        "3090Ti",
        "A5000",
        "A40",
        "A40",
    ]


def test_an_unknown_type_is_named():
    with pytest.raises(SpecError, match=r"random.types\[1\]: unknown gpu \(got 'b40'\); did you mean 'a40'\?"):
        random_cluster(4, 0, types=["a40", "b40"])
