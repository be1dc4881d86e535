"""The step table against the operators it is made of, and against times that others measured and published."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.cost import operators
from thunderserve.cost.card import Card
from thunderserve.cost.engine import ENGINES, Engine
from thunderserve.cost.evaluate import decode_s, lin, prefill_s
from thunderserve.cost.roofline import Roofline, geometric_knots, roofline_card
from thunderserve.cost.shapes import StageShape
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.catalogue import find
from thunderserve.spec.cluster import Cluster, Device, Link, NodePair
from thunderserve.spec.document import load
from thunderserve.spec.gpu import Gpu, GpuFile
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

BARE = Roofline(Engine(step_s=0))


def model(name: str) -> ModelSpec:
    return load(ModelSpec, find("models", name))


def gpu(name: str) -> Gpu:
    return load(GpuFile, find("gpus", name)).gpu("datasheet")


def node(*cards: Gpu, beta: float = 32e9) -> Cluster:
    return Cluster(
        name="node",
        gpus={card.name: card for card in cards},
        devices=tuple(Device(id=i, gpu=card.name, node="n") for i, card in enumerate(cards)),
        inside={"n": Link(latency_s=1e-5, bytes_per_s=beta)},
    )


def replica(*stages: tuple[tuple[int, ...], int]) -> Replica:
    held = tuple(Stage(devices=devices, num_layers=layers) for devices, layers in stages)
    return Replica(stages=held, phase=Phase.BOTH, batching=Batching(policy="chunked"))


def table(
    spec: ModelSpec, cards: list[Gpu], *stages: tuple[tuple[int, ...], int], source: Roofline = BARE
) -> StepTable:
    bounds = {"max_tokens": 8192, "max_sequences": 256, "max_context": 4096}
    return source.step_table(spec, replica(*stages), node(*cards), **bounds)


@given(tokens=st.integers(1, 8192), sequences=st.integers(1, 256), keys=st.integers(1, 256 * 4096))
@settings(max_examples=200)
@pytest.mark.parametrize(
    ("name", "card"), [("llama-30b", "A40"), ("llama-2-70b", "H100"), ("mixtral-8x7b", "A100-80G")]
)
def test_the_table_is_the_sum_of_its_operators_within_one_percent(name, card, tokens, sequences, keys):
    spec = model(name)
    steps = table(spec, [gpu(card)], ((0,), spec.num_layers))
    shape = StageShape(spec, 1, spec.num_layers, first=True, last=True)
    direct = roofline_card(gpu(card))
    n, o, c = np.array([float(tokens)]), np.array([float(sequences)]), np.array([float(keys)])
    assert lin(steps.token_knots, steps.token_s, n)[0] == pytest.approx(direct.layers_s(shape, n), rel=0.01)
    assert lin(steps.logit_knots, steps.logit_s, o)[0] == pytest.approx(direct.head_s(shape, o), rel=0.01)
    # between two knots lies the kink where a chunk begins to fill the card
    assert lin(steps.chunk_knots, steps.pair_s, n)[0] == pytest.approx(direct.pair_s(shape, n), rel=0.04)
    whole = decode_s(steps, sequences, c)[0] - steps.fixed_s[0]
    parts = direct.decode_s(shape, o, c) + direct.layers_s(shape, o) + direct.head_s(shape, o)
    assert whole == pytest.approx(parts, rel=0.01)


@pytest.mark.parametrize("card", ["A40", "4090", "H100"])
@pytest.mark.parametrize(("length", "past"), [(64, 0), (64, 4000), (1000, 0), (4096, 8192)])
def test_attention_of_a_chunk_adds_up_to_the_kernel_it_stands_for(card, length, past):
    """One chunk alone: what the table spreads over launch, tokens, chunk and pairs is the law of ``PrefillAttentionCurve``."""
    spec, kind = model("llama-2-70b"), gpu(card)
    shape = StageShape(spec, 8, 1, first=False, last=False)
    direct, n = roofline_card(kind), np.array([float(length)])
    pairs = length * past + length * (length + 1) / 2
    table_s = direct.launch_s(shape) + direct.attention_tokens_s(shape, n) + direct.chunk_s(shape)
    table_s = table_s + pairs * direct.pair_s(shape, n)
    curve = direct.curves.prefill_attention
    rows = 8 * (length + curve.tile_rows / 2)
    busy = max(rows, curve.processors * curve.tile_rows)
    flops = 4 * 128 * (busy * (past + (length + 1) / 2) + rows * curve.start_keys)
    moved = max(2 * length * 128 * (2 * 8 + 6 * 1) - curve.cache_bytes, 0)
    expected = curve.latency_s + flops / (curve.compute_share * kind.flops)
    expected += moved / (curve.memory_share * kind.memory_bytes_per_s)
    assert table_s[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("card", ["A40", "3090Ti", "L4", "T4", "H200"])
def test_tables_rise_and_are_never_negative(card):
    steps = table(model("llama-13b"), [gpu(card)] * 2, ((0, 1), 40), source=Roofline())
    for values in (steps.token_s, steps.logit_s):
        assert np.all(np.diff(values[0]) >= 0)
    assert np.all(np.diff(steps.pair_s[0]) <= 0)
    assert np.all(np.diff(steps.decode_s[0], axis=0) >= 0)
    assert np.all(np.diff(steps.decode_s[0], axis=1) >= 0)
    assert min(part.min() for part in steps) >= 0
    for knots in (steps.token_knots, steps.logit_knots, steps.batch_knots, steps.context_knots, steps.chunk_knots):
        assert knots[0] == 1
        assert np.all(np.diff(knots) > 0)


@given(st.floats(1, 5), st.floats(1, 5))
@settings(max_examples=25)
def test_a_better_card_is_never_slower(compute, memory):
    card = gpu("A40")
    better = card.model_copy(
        update={"flops": card.flops * compute, "memory_bytes_per_s": card.memory_bytes_per_s * memory}
    )
    spec = model("llama-7b")
    slow, fast = (table(spec, [each], ((0,), 32)) for each in (card, better))
    assert all(np.all(b <= a + 1e-15) for a, b in zip(slow, fast, strict=True))


def test_a_stage_of_mixed_cards_is_as_slow_as_the_slowest_in_each_part():
    """A40 computes faster, 3090Ti reads faster; their common stage does neither."""
    spec, pair = model("llama-13b"), ((0, 1), 40)
    mixed = table(spec, [gpu("A40"), gpu("3090Ti")], pair)
    alone = [table(spec, [gpu(name)] * 2, pair) for name in ("A40", "3090Ti")]
    assert mixed.token_s == pytest.approx(np.maximum(alone[0].token_s, alone[1].token_s))
    assert mixed.decode_s == pytest.approx(np.maximum(alone[0].decode_s, alone[1].decode_s))
    assert not np.allclose(alone[0].token_s, alone[1].token_s, rtol=0.05)


def test_a_pipeline_divides_layers_and_only_its_last_stage_samples():
    spec = model("llama-30b")
    whole = table(spec, [gpu("A100-80G")], ((0,), 60))
    split = table(spec, [gpu("A100-80G")] * 2, ((0,), 20), ((1,), 40))
    assert split.pair_s.sum(axis=0) == pytest.approx(whole.pair_s[0])
    assert split.token_s.sum(axis=0) == pytest.approx(whole.token_s[0])
    assert split.decode_s[1] == pytest.approx(2 * split.decode_s[0])
    assert np.all(split.logit_s[0] == 0)
    assert split.logit_s[1] == pytest.approx(whole.logit_s[0])
    assert split.hop_s[1] == split.hop_s_per_token[1] == 0
    assert split.hop_s_per_token[0] > 0


def test_hops_between_nodes_take_the_network():
    card, spec = gpu("A40"), model("llama-30b")
    wire = Link(latency_s=2e-3, bytes_per_s=1e9)
    cluster = Cluster(
        name="two",
        gpus={"A40": card},
        devices=(Device(id=0, gpu="A40", node="a"), Device(id=1, gpu="A40", node="b")),
        inside={"a": wire, "b": wire},
        between=(NodePair(source="a", target="b", link=wire), NodePair(source="b", target="a", link=wire)),
    )
    two = replica(((0,), 30), ((1,), 30))
    steps = BARE.step_table(spec, two, cluster, max_tokens=64, max_sequences=4, max_context=128)
    assert steps.hop_s.tolist() == [2e-3, 0]
    assert steps.hop_s_per_token[0] == pytest.approx(6656 * 2 / 1e9)


def test_tensor_parallel_adds_two_all_reduces_a_layer():
    """At one token on two cards over PCIe: 60 layers x 2 x (10 us + 13,312 bytes at the PCIe share)."""
    spec = model("llama-30b")
    fast, slow = (
        BARE.step_table(
            spec,
            replica(((0, 1), 60)),
            node(*[gpu("A40")] * 2, beta=beta),
            max_tokens=64,
            max_sequences=4,
            max_context=128,
        )
        for beta in (32e9, 8e9)
    )
    extra = slow.token_s[0, 0] - fast.token_s[0, 0]
    assert extra == pytest.approx(120 * 13_312 * (1 / 2e9 - 1 / 8e9))


def test_an_engine_adds_what_it_says():
    engine = Engine(step_s=1e-3, layer_s=1e-5, sequence_s=1e-4, collective_s=1e-6, prompt_s=5e-3)
    spec, cards, pair = model("llama-7b"), [gpu("A40")] * 2, ((0, 1), 32)
    bare, busy = table(spec, cards, pair), table(spec, cards, pair, source=Roofline(engine))
    assert busy.fixed_s[0] - bare.fixed_s[0] == pytest.approx(1e-3 + 32e-5)
    assert busy.token_s - bare.token_s == pytest.approx(64 * 2e-6)
    assert busy.logit_s[0] - bare.logit_s[0] == pytest.approx(busy.logit_knots * 1e-4)
    assert busy.chunk_s - bare.chunk_s == pytest.approx(5e-3)


def test_without_cuda_graphs_a_layer_takes_its_launches():
    engine = Engine(step_s=0, launch_s=1e-3)
    steps = table(model("llama-7b"), [gpu("H100")], ((0,), 32), source=Roofline(engine))
    assert steps.token_s[0, 0] == pytest.approx(32e-3)
    assert steps.token_s[0, -1] > 32e-3


@given(st.integers(1, 1_000_000))
def test_knots_reach_the_end_and_never_leap(last):
    knots = np.array(geometric_knots(last))
    assert knots[0] == 1
    assert knots[-1] == max(last, 2)
    assert np.all((np.diff(knots) == 1) | (knots[1:] / knots[:-1] < 1.21))


# Published measurements. Each line: who measured, where it stands, and how close the shipped constants come.


@pytest.mark.parametrize(
    ("card", "at_1024_tflops", "at_8_s"),
    [("A100-80G", 212, 0.260e-3), ("A40", 105, 0.734e-3), ("H100", 734, 0.152e-3)],
)
def test_the_four_linears_of_a_llama_2_7b_layer(card, at_1024_tflops, at_8_s):
    """Vidur's profiles (MIT), TP 1: TFLOP/s at 1,024 tokens (on H100 a good size: 768 reach 560), seconds a layer at 8."""
    spec = model("llama-7b")
    direct = roofline_card(gpu(card))
    shape = StageShape(spec, 1, 1, first=False, last=False)
    matrices = [*shape.attention_matmuls().values(), *shape.mlp_matmuls().values()]
    flops = sum(2 * 1024 * n * k for n, k in matrices)
    large, small = (
        sum(float(direct.matmul(np.array([m]), matrix, 2)[0]) for matrix in matrices) for m in (1024.0, 8.0)
    )
    assert flops / large / 1e12 == pytest.approx(at_1024_tflops, rel=0.15)
    assert small == pytest.approx(at_8_s, rel=0.08)


HELIX_MEAN_KEYS = 880


@pytest.mark.parametrize(
    ("card", "prefill_4000_ms", "decode_20_ms", "decode_100_ms", "within"),
    [
        ("A100-40G", 18, 1.2, 2.8, 0.20),
        ("L4", 85, 6.7, 14.1, 0.15),
        ("T4", 163, 7.2, 14.6, 0.10),
        ("V100", 48, 2.3, 6.5, 0.25),
    ],
)
def test_one_layer_of_llama_30b_as_helix_measured_it(card, prefill_4000_ms, decode_20_ms, decode_100_ms, within):
    """HELIX ``simulator/model_manager/llama1_30b`` (Apache-2.0), prompts of 763 tokens, about 880 keys a sequence."""
    direct: Card = roofline_card(gpu(card))
    shape = StageShape(model("llama-30b"), 1, 1, first=False, last=False)
    n, chunk = np.array([4000.0]), np.array([763.0])
    prefill = direct.launch_s(shape) + direct.layers_s(shape, n) + n * 382 * direct.pair_s(shape, chunk)
    assert prefill[0] == pytest.approx(prefill_4000_ms * 1e-3, rel=within)
    for batch, milliseconds in ((20, decode_20_ms), (100, decode_100_ms)):
        b = np.array([float(batch)])
        seconds = direct.launch_s(shape) + direct.layers_s(shape, b) + direct.decode_s(shape, b, b * HELIX_MEAN_KEYS)
        assert seconds[0] == pytest.approx(milliseconds * 1e-3, rel=within)


@pytest.mark.parametrize(
    ("name", "tp", "prefill", "decode"),
    [
        ("opt-13b", 1, (18.10, 0.1019, 7.12e-6), (19.93, 6.27e-4, 0.0385)),
        ("opt-66b", 4, (29.44, 0.1514, 8.32e-6), (30.76, 4.52e-4, 0.0633)),
    ],
)
def test_whole_steps_as_distserve_fitted_them(name, tp, prefill, decode):
    """DistServe ``profiler-a100-80g.distserve.json`` (Apache-2.0): ms of a prompt t, and of b sequences with c keys."""
    spec = model(name)
    card = gpu("A100-80G")
    cluster = node(*[card] * tp, beta=card.fabric_bytes_per_s)
    steps = Roofline(ENGINES["distserve"]).step_table(
        spec,
        replica((tuple(range(tp)), spec.num_layers)),
        cluster,
        max_tokens=4096,
        max_sequences=128,
        max_context=2048,
    )
    for prompt in (256, 512, 1024, 1536):
        published = np.polyval([*prefill[::-1]], prompt) * 1e-3
        assert prefill_s(steps, np.array([prompt]))[0, 0] == pytest.approx(published, rel=0.10)
    for batch in (1, 16, 64):
        keys = batch * 512
        published = (decode[0] + decode[1] * keys + decode[2] * batch) * 1e-3
        assert decode_s(steps, batch, np.array([keys]))[0, 0] == pytest.approx(published, rel=0.12)


def test_a_decode_batch_of_a_mixture_reads_the_experts_it_touches():
    """One token of Mixtral reads 2 of 8 experts: the step is far shorter than reading all weights."""
    spec = model("mixtral-8x7b")
    direct = roofline_card(gpu("H100"))
    shape = StageShape(spec, 1, spec.num_layers, first=False, last=False)
    one, many = direct.layers_s(shape, np.array([1.0]))[0], direct.layers_s(shape, np.array([64.0]))[0]
    weights_s = spec.weight_bytes / 3350e9
    assert one < 0.5 * weights_s
    assert many > 0.9 * weights_s
    assert operators.experts_touched(8, 2, 64.0) == pytest.approx(8, rel=1e-6)
