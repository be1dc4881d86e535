"""Kernel tables in the layout of aiconfigurator-core: made by hand here, so that the package itself need not be installed."""

import duckdb
import numpy as np
import pytest

from thunderserve.cost import measured
from thunderserve.cost.engine import Engine
from thunderserve.cost.evaluate import decode_s, lin
from thunderserve.cost.measured import MeasuredCard
from thunderserve.cost.roofline import Roofline, roofline_card
from thunderserve.cost.shapes import StageShape
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.catalogue import find
from thunderserve.spec.cluster import Cluster, Device, Link
from thunderserve.spec.document import load
from thunderserve.spec.errors import SpecError
from thunderserve.spec.gpu import GpuFile
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

A100 = load(GpuFile, find("gpus", "a100-80g")).gpu("datasheet")
A40 = load(GpuFile, find("gpus", "a40")).gpu("datasheet")
LLAMA = load(ModelSpec, find("models", "llama-7b"))
BARE = Engine(step_s=0)
SLOWER = {"gemm": 1.5, "context": 1.2, "generation": 2.0}
"""The made-up tables are the roofline of LLaMA-7B, each kernel slower by this factor."""


def write(folder, kind: str, version: str, table: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    target = folder / kind / "vllm" / version
    target.mkdir(parents=True, exist_ok=True)
    values = ", ".join(f"({', '.join(repr(value) for value in row)})" for row in rows)
    query = (
        f"COPY (SELECT * FROM (VALUES {values}) t({', '.join(columns)})) TO '{target / table}.parquet' (FORMAT parquet)"
    )
    duckdb.sql(query)


def attention_rows(direct, shape: StageShape, kind: str) -> list[tuple[object, ...]]:
    rows = []
    for batch in (1, 4, 64):
        for length in (16, 512, 4096):
            if kind == "context":
                pairs, tokens = batch * length * (length + 1) / 2, np.array([float(batch * length)])
                body = pairs * direct.pair_s(shape, np.array([float(length)]))[0] * SLOWER[kind]
                rest = measured.beside_keys_s(direct, shape, tokens)[0] + direct.chunk_s(shape)
                seconds, isl, step = rest + body, length, 0
            else:
                b = np.array([float(batch)])
                whole = measured.beside_keys_s(direct, shape, b) + direct.decode_s(shape, b, b * length)
                seconds, isl, step = whole[0] * SLOWER[kind], 1, length - 1
            for window, factor in ((0, 1e3), (128, 1e2)):  # a sliding window reads less; those rows must not count
                rows.append((window, batch, isl, step, 32, 0, 128, "bfloat16", "bfloat16", float(seconds) * factor))
    return rows


@pytest.fixture
def tables(tmp_path, monkeypatch):
    folder = tmp_path / "a100_sxm"
    direct = roofline_card(A100)
    shape = StageShape(LLAMA, 1, 1, first=False, last=False)
    matrices = [*shape.attention_matmuls().values(), *shape.mlp_matmuls().values(), (32000.0, 4096.0)]
    gemm = [
        (int(m), int(n), int(k), "bfloat16", float(direct.matmul(np.array([m]), (n, k), 2)[0]) * 1e3 * SLOWER["gemm"])
        for n, k in matrices
        for m in (1.0, 64.0, 1024.0, 8192.0)
    ]
    write(
        folder,
        "gemm",
        "0.9.1",
        "gemm_perf",
        ["m", "n", "k", "gemm_dtype", "latency"],
        [(1, 4096, 4096, "bfloat16", 9e9)],
    )
    write(folder, "gemm", "0.24.0", "gemm_perf", ["m", "n", "k", "gemm_dtype", "latency"], gemm)
    columns = [
        "window_size",
        "batch_size",
        "isl",
        "step",
        "num_heads",
        "num_key_value_heads",
        "head_dim",
        "attn_dtype",
        "kv_cache_dtype",
    ]
    for kind in ("context", "generation"):
        write(
            folder,
            "attention",
            "0.24.0",
            f"{kind}_attention_perf",
            [*columns, "latency"],
            attention_rows(direct, shape, kind),
        )
    reduces = [
        (devices, size, "vllm_graph", 0.01 * devices * size / 1e6) for devices in (2, 4) for size in (1000, 1_000_000)
    ]
    write(
        folder, "comm", "0.24.0", "custom_allreduce_perf", ["num_gpus", "message_size", "backend", "latency"], reduces
    )
    monkeypatch.setattr(measured, "data_folder", lambda: tmp_path)
    measured.measured_card.cache_clear()
    yield
    measured.measured_card.cache_clear()


def table(source: Roofline, tp: int = 1) -> StepTable:
    cluster = Cluster(
        name="n",
        gpus={A100.name: A100},
        devices=tuple(Device(id=i, gpu=A100.name, node="n") for i in range(tp)),
        inside={"n": Link(latency_s=8e-6, bytes_per_s=300e9)},
    )
    held = Stage(devices=tuple(range(tp)), num_layers=LLAMA.num_layers)
    replica = Replica(stages=(held,), phase=Phase.BOTH, batching=Batching(policy="chunked"))
    return source.step_table(LLAMA, replica, cluster, max_tokens=8192, max_sequences=64, max_context=4096)


def test_tables_that_are_the_roofline_times_a_factor_give_it_back(tables):
    theirs, ours = table(measured.measured(BARE)), table(Roofline(BARE))
    shape = StageShape(LLAMA, 1, LLAMA.num_layers, first=True, last=True)
    direct = roofline_card(A100)
    n = ours.token_knots.astype(float)
    matrices = [*shape.attention_matmuls().values(), *shape.mlp_matmuls().values()]
    products = LLAMA.num_layers * np.sum([direct.matmul(n, matrix, 2) for matrix in matrices], axis=0)
    assert theirs.token_s[0] == pytest.approx(ours.token_s[0] + 0.5 * products, rel=1e-3)
    assert theirs.logit_s[0] == pytest.approx(1.5 * ours.logit_s[0], rel=1e-3)
    long = ours.chunk_knots >= 512
    assert theirs.pair_s[0][long] == pytest.approx(1.2 * ours.pair_s[0][long], rel=0.05)
    assert theirs.chunk_s == pytest.approx(ours.chunk_s)


@pytest.mark.parametrize(("batch", "length"), [(1, 512), (4, 512), (64, 512), (64, 4096)])
def test_decode_attention_is_the_table_s(tables, batch, length):
    theirs, ours = table(measured.measured(BARE)), table(Roofline(BARE))
    keys = np.array([batch * length])
    size = np.array([batch])
    rest = [
        lin(each.token_knots, each.token_s, size)[0, 0] + lin(each.logit_knots, each.logit_s, size)[0, 0]
        for each in (theirs, ours)
    ]
    times = [decode_s(each, batch, keys)[0, 0] - other for each, other in zip((theirs, ours), rest, strict=True)]
    # The table has twice the roofline's whole attention, of which token_s already holds a part, once.
    shape = StageShape(LLAMA, 1, LLAMA.num_layers, first=True, last=True)
    by_token = LLAMA.num_layers * roofline_card(A100).attention_tokens_s(shape, size.astype(float))[0]
    assert times[0] + by_token == pytest.approx(2 * (times[1] + by_token), rel=0.02)


def test_all_reduces_come_from_the_table_where_it_has_that_many_cards(tables):
    card = measured.measured_card(A100)
    assert isinstance(card, MeasuredCard)
    # 0.01 ms x cards a megabyte, and on beyond the last size
    assert card.all_reduce_s(4, np.array([1e3, 1e6, 3e6])) == pytest.approx([4e-8, 4e-5, 12e-5])
    assert card.all_reduce_s(8, np.array([1e6])) is None
    one, two = (table(measured.measured(BARE), tp) for tp in (1, 2))
    assert two.token_s[0, -1] < one.token_s[0, -1]


def test_a_gpu_without_tables_is_refused_with_those_that_have_some(tables):
    with pytest.raises(SpecError, match=r"no measured kernel tables for this GPU \(got 'A40'\)"):
        measured.measured_card(A40)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    measured.data_folder.cache_clear()
    monkeypatch.setattr(measured, "find_spec", lambda _: None)
    with pytest.raises(
        SpecError, match=r"need the package aiconfigurator-core; pip install 'thunderserve\[measured\]'"
    ):
        measured.measured()


def test_the_real_package_agrees_with_the_roofline_within_a_third():
    pytest.importorskip("aiconfigurator_core", reason="the extra 'measured' is not installed")
    measured.data_folder.cache_clear()
    theirs, ours = table(measured.measured(BARE)), table(Roofline(BARE))
    assert theirs.token_s == pytest.approx(ours.token_s, rel=0.34)
