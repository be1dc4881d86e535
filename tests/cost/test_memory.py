"""What fits, against figures that others published."""

import pytest

from thunderserve.cost.memory import MemoryRules, check_memory, kv_blocks, replica_memory, weight_bytes
from thunderserve.cost.shapes import stage_shapes
from thunderserve.spec.catalogue import find
from thunderserve.spec.cluster import Cluster, Device, Link
from thunderserve.spec.document import load
from thunderserve.spec.gpu import GpuFile
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage


def model(name: str) -> ModelSpec:
    return load(ModelSpec, find("models", name))


def node(gpu: str, count: int) -> Cluster:
    return Cluster(
        name=gpu,
        gpus={gpu: load(GpuFile, find("gpus", gpu)).gpu("datasheet")},
        devices=tuple(Device(id=i, gpu=gpu, node="n") for i in range(count)),
        inside={"n": Link(latency_s=1e-5, bytes_per_s=32e9)},
    )


def replica(tp: int, *layers: int, **batching: int) -> Replica:
    stages = tuple(Stage(devices=tuple(range(i * tp, (i + 1) * tp)), num_layers=n) for i, n in enumerate(layers))
    return Replica(stages=stages, phase=Phase.BOTH, batching=Batching(policy="chunked", **batching))


def test_llama_30b_does_not_fit_one_a40():
    """65.06 GB of weights (60 layers and both embeddings at 16 bit), 48 GiB of memory."""
    one = replica(1, 60)
    assert kv_blocks(model("llama-30b"), one, node("A40", 1)) == 0
    with pytest.raises(
        ValueError, match=r"device 0 \(A40\) is 2\d\.\d GB short for llama-30b: 46.4 GB usable, 65.1 GB"
    ):
        check_memory(model("llama-30b"), one, node("A40", 1))


def test_llama_30b_on_two_a40_keeps_about_fifteen_thousand_tokens():
    """46.4 GB usable a card, less 32.5 GB of weights and 2.2 GB of overheads, over 0.8 MB a token and card."""
    two = replica(2, 60)
    tokens = kv_blocks(model("llama-30b"), two, node("A40", 2)) * 16
    assert 13_500 < tokens < 16_000
    check_memory(model("llama-30b"), two, node("A40", 2))


@pytest.mark.parametrize(
    ("name", "tp", "layers", "published"),
    [
        ("opt-13b", 1, (40,), 66_144),
        ("opt-13b", 2, (40,), 163_008),
        ("opt-13b", 4, (40,), 356_736),
        ("opt-13b", 2, (20, 20), 356_752),
        ("opt-66b", 4, (64,), 78_496),
        ("opt-66b", 8, (64,), 212_304),
    ],
)
def test_tokens_that_distserve_found_on_a100_80g(name, tp, layers, published):
    """DistServe's max_num_tokens.csv (Apache-2.0), measured at 95 % utilisation with short prefill batches."""
    rules = MemoryRules(utilisation=0.95)
    held = replica(tp, *layers, max_batched_tokens=2048, max_sequences=64)
    tokens = kv_blocks(model(name), held, node("A100-80G", tp * len(layers)), rules) * 16
    assert tokens == pytest.approx(published, rel=0.04)


def test_the_stages_of_a_pipeline_hold_all_weights_once():
    spec = model("llama-30b")
    shards = stage_shapes(spec, replica(2, 25, 35))
    assert sum(2 * weight_bytes(shape) for shape in shards) == pytest.approx(spec.weight_bytes, rel=1e-9)


def test_the_smallest_card_decides():
    spec = model("llama-30b")
    even, odd = replica(2, 30, 30), replica(2, 10, 50)
    cards = replica_memory(spec, odd, node("A40", 4))
    assert cards[3].kv_bytes < cards[0].kv_bytes
    assert kv_blocks(spec, odd, node("A40", 4)) < kv_blocks(spec, even, node("A40", 4))


def test_kv_heads_are_copied_when_there_are_fewer_than_cards():
    """Llama-2-70B at TP 16: each card holds one of 8 KV heads, 2 x 128 x 2 bytes x 80 layers a token."""
    cards = replica_memory(model("llama-2-70b"), replica(16, 80), node("A100-80G", 16))
    assert cards[0].kv_bytes_per_token == 2 * 128 * 2 * 80


def test_a_mixture_keeps_all_its_experts():
    spec = model("mixtral-8x7b")
    assert weight_bytes(stage_shapes(spec, replica(1, 32))[0]) == pytest.approx(spec.weight_bytes, rel=1e-9)
    assert spec.weight_bytes == pytest.approx(93.4e9, rel=0.01)
