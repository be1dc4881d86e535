"""Kernels in the limits where the answer is known by hand, and the directions nothing may violate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.cost import operators
from thunderserve.cost.efficiency import (
    DecodeAttentionCurve,
    ElementwiseCurve,
    MatmulCurve,
    PrefillAttentionCurve,
    efficiency_of,
    load_efficiency,
    read_efficiency,
)
from thunderserve.spec.catalogue import find, names
from thunderserve.spec.document import load
from thunderserve.spec.errors import SpecError
from thunderserve.spec.gpu import GpuFile

SHARP = MatmulCurve(latency_s=0, compute_share=0.5, ramp_elements=0, memory_share=0.8, overlap=50)
sizes = st.integers(1, 20_000)


def test_a_large_product_takes_its_flops_at_the_compute_share():
    # 2 * 8192^3 = 1.0995e12 FLOP at half of 100 TFLOP/s
    seconds = operators.matmul_s(SHARP, 100e12, 1e15, 8192.0, 8192, 8192)
    assert seconds == pytest.approx(2 * 8192**3 / 50e12, rel=1e-9)


def test_one_row_takes_the_reading_of_the_matrix_at_the_memory_share():
    # 4096 x 4096 weights of 2 bytes, and 2 x 4096 activations, at 0.8 of 1 TB/s
    seconds = operators.matmul_s(SHARP, 1e18, 1e12, 1.0, 4096, 4096)
    assert seconds == pytest.approx(2 * (4096 * 4096 + 2 * 4096) / 0.8e12, rel=1e-9)


def test_overlap_one_adds_compute_and_memory():
    curve = SHARP.model_copy(update={"overlap": 1.0, "latency_s": 3e-6})
    compute, memory = 2 * 64**3 / 0.5e9, 2 * 3 * 64**2 / 0.8e9
    assert operators.matmul_s(curve, 1e9, 1e9, 64.0, 64, 64) == pytest.approx(3e-6 + compute + memory)


@given(sizes, sizes, sizes, st.integers(1, 1000), st.sampled_from(names("efficiency")))
def test_more_rows_are_never_faster_and_faster_cards_never_slower(m, n, k, more, name):
    curve = load_efficiency(name).matmul
    seconds = operators.matmul_s(curve, 1e14, 1e12, float(m), n, k)
    assert operators.matmul_s(curve, 1e14, 1e12, float(m + more), n, k) >= seconds
    assert operators.matmul_s(curve, 2e14, 1e12, float(m), n, k) <= seconds
    assert operators.matmul_s(curve, 1e14, 2e12, float(m), n, k) <= seconds


TILED = PrefillAttentionCurve(
    latency_s=0, compute_share=0.5, start_keys=0, memory_share=0.5, processors=100, tile_rows=64, cache_bytes=1e6
)


def test_a_long_chunk_costs_four_flops_a_pair_and_head_value():
    long = operators.pair_s(TILED, 1e14, 32, 128, 1e12)
    assert long == pytest.approx(4 * 32 * 128 / 0.5e14)
    # 320 tokens: 10 % more rows for half-filled last tiles; 10,240 + 1,024 rows are more than the 6,400 of a wave
    assert operators.pair_s(TILED, 1e14, 32, 128, 320.0) == pytest.approx(1.1 * long)
    # 32 tokens: 2,048 rows take as long as 6,400
    assert operators.pair_s(TILED, 1e14, 32, 128, 32.0) == pytest.approx(6400 / (32 * 32) * long)


def test_rows_are_what_counting_tiles_gives_on_average():
    """Chunks of 1 to 640 tokens cut into tiles of 64, counted one by one: half a tile more than the tokens, less half a row."""
    lengths = np.arange(1, 641, dtype=float)
    tiles = [8 * 64 * sum(1 for _ in range(0, int(length), 64)) for length in lengths]
    assert np.mean(operators.rows(TILED, 8, lengths)) == pytest.approx(np.mean(tiles), rel=0.002)


@given(st.integers(1, 64), sizes, st.integers(1, 1000), st.sampled_from(names("efficiency")))
def test_a_longer_chunk_never_costs_less_and_never_more_a_pair(heads, chunk, more, name):
    curve = load_efficiency(name).prefill_attention
    short, long = (operators.pair_s(curve, 1e14, heads, 128, float(length)) for length in (chunk, chunk + more))
    assert long <= short * (1 + 1e-12)
    assert long * (chunk + more) >= short * chunk * (1 - 1e-12)


def test_attention_moves_values_that_its_cache_does_not_hold():
    assert operators.moved_by_attention_s(TILED, 1e12, 0.9e6) == 0
    assert operators.moved_by_attention_s(TILED, 1e12, 3e6) == pytest.approx(2e6 / 0.5e12)


def test_decode_attention_reads_the_keys_and_a_padded_page_a_sequence():
    curve = DecodeAttentionCurve(latency_s=1e-5, memory_share=0.5, pad_tokens=16)
    seconds = operators.decode_attention_s(curve, 1e12, 4096.0, 10.0, 5000.0)
    assert seconds == pytest.approx(1e-5 + 4096 * 5160 / 0.5e12)


def test_a_small_kernel_is_latency_and_bytes():
    curve = ElementwiseCurve(latency_s=2e-6, memory_share=0.5)
    assert operators.elementwise_s(curve, 1e12, 1e6) == pytest.approx(4e-6)


def test_a_small_kernel_goes_faster_through_what_the_cache_holds():
    curve = ElementwiseCurve(latency_s=2e-6, memory_share=0.5, cache_bytes=3e6, cache_share=3)
    assert operators.elementwise_s(curve, 1e12, 1.5e6) == pytest.approx(2.5e-6)
    assert operators.elementwise_s(curve, 1e12, 5e6) == pytest.approx(2e-6 + 1e-6 + 4e-6)


@pytest.mark.parametrize(("tokens", "touched"), [(1, 2.0), (2, 3.5), (1_000, 8.0)])
def test_experts_touched_of_eight_with_two_a_token(tokens, touched):
    # two tokens: 8 (1 - (3/4)^2) = 3.5
    assert operators.experts_touched(8, 2, float(tokens)) == pytest.approx(touched)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 5_000))
def test_no_more_experts_are_touched_than_there_are_or_than_are_asked_for(experts, chosen, tokens):
    chosen = min(chosen, experts)
    touched = operators.experts_touched(experts, chosen, float(tokens))
    assert -1e-9 <= touched <= min(experts, chosen * tokens) + 1e-9


@pytest.mark.parametrize("name", names("efficiency"))
def test_every_shipped_curve_loads_and_says_where_it_comes_from(name):
    curves = load_efficiency(name)
    assert len(curves.source) > 20
    assert 0.2 < curves.matmul.compute_share <= 1
    assert 0.5 < curves.matmul.memory_share <= 1


@pytest.mark.parametrize("catalogue", ["datasheet", "paper"])
@pytest.mark.parametrize("name", names("gpus"))
def test_every_gpu_of_the_catalogues_has_curves(name, catalogue):
    gpu = load(GpuFile, find("gpus", name)).gpu(catalogue)
    assert efficiency_of(gpu).name.lower() in {gpu.name.lower(), gpu.family}


def test_curves_are_relative_so_the_paper_catalogue_slows_a_card_down_by_its_peak():
    file = load(GpuFile, find("gpus", "a6000"))
    real, printed = file.gpu("datasheet"), file.gpu("paper")
    curve = efficiency_of(real).matmul
    times = [
        operators.matmul_s(curve, gpu.flops, gpu.memory_bytes_per_s, 4096.0, 8192, 8192) for gpu in (real, printed)
    ]
    assert times[1] / times[0] == pytest.approx(real.flops / printed.flops, rel=0.02)


def test_a_family_without_a_file_is_named_with_what_is_known():
    gpu = load(GpuFile, find("gpus", "a40")).gpu("datasheet")
    with pytest.raises(SpecError, match=r"no efficiency curves for X1 of family ampere-ga105.*ampere-ga10"):
        efficiency_of(gpu.model_copy(update={"name": "X1", "family": "ampere-ga105"}))


def test_a_file_inherits_what_it_does_not_say(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "source: my own card, by hand\ninherits: ampere-ga102\n"
        "prefill_attention: {latency_s: 1.0e-5, compute_share: 0.3, start_keys: 1, memory_share: 1, "
        "processors: 1, tile_rows: 1}\n"
    )
    mine, parent = read_efficiency(tmp_path / "mine.yaml"), load_efficiency("ampere-ga102")
    assert mine.prefill_attention.compute_share == 0.3
    assert mine.matmul == parent.matmul


def test_a_wrong_key_is_named_with_file_and_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("source: by hand, of no use\ninherits: ampere-ga102\nmatmull: {}\n")
    with pytest.raises(SpecError, match=r"bad\.yaml:?\d*: matmull: unknown key; did you mean 'matmul'"):
        read_efficiency(path)


def test_a_circle_of_inheritance_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("source: first of two\ninherits: b\n")
    (tmp_path / "b.yaml").write_text("source: second of two\ninherits: a\n")
    with pytest.raises(SpecError, match="inherits itself"):
        read_efficiency(tmp_path / "a.yaml")


def test_arrays_and_numbers_agree():
    curve = load_efficiency("ampere-ga100").matmul
    rows = np.array([1.0, 17.0, 4000.0])
    together = operators.matmul_s(curve, 312e12, 2e12, rows, 4096, 11008)
    assert together.tolist() == [operators.matmul_s(curve, 312e12, 2e12, float(m), 4096, 11008) for m in rows]
