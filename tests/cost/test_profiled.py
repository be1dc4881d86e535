"""A user's own table: what he measured comes back, and what is wrong with his file is said."""

import duckdb
import numpy as np
import pytest

from thunderserve.cost.evaluate import decode_s, lin
from thunderserve.cost.profiled import Profiled
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.catalogue import find
from thunderserve.spec.cluster import Cluster, Device, Link
from thunderserve.spec.document import load
from thunderserve.spec.errors import SpecError
from thunderserve.spec.gpu import GpuFile
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

HEADER = "phase,tokens,batch,context,seconds"
PREFILL = ["prefill,128,1,0,0.020", "prefill,512,1,0,0.060", "prefill,2048,1,0,0.260"]
DECODE = [
    "decode,1,1,100,0.010", "decode,1,1,1000,0.011", "decode,8,8,100,0.012", "decode,8,8,1000,0.019",
    "decode,64,64,100,0.025", "decode,64,64,1000,0.080",
]  # fmt: skip


@pytest.fixture
def profile(tmp_path):
    def write(*rows: str, header: str = HEADER, name: str = "mine.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def table(path, *stages: tuple[tuple[int, ...], int], phase: Phase = Phase.BOTH) -> StepTable:
    card = load(GpuFile, find("gpus", "A40")).gpu("datasheet")
    stages = stages or (((0,), 60),)
    cluster = Cluster(
        name="n",
        gpus={"A40": card},
        devices=tuple(Device(id=i, gpu="A40", node="n") for i in range(4)),
        inside={"n": Link(latency_s=1e-5, bytes_per_s=32e9)},
    )
    held = tuple(Stage(devices=devices, num_layers=layers) for devices, layers in stages)
    replica = Replica(stages=held, phase=phase, batching=Batching(policy="chunked"))
    spec = load(ModelSpec, find("models", "llama-30b"))
    return Profiled(path).step_table(spec, replica, cluster, max_tokens=1, max_sequences=1, max_context=1)


def prefill_step_s(steps: StepTable, prompts: list[int]) -> float:
    tokens = np.array([sum(prompts)])
    pairs = sum(n * (n + 1) / 2 for n in prompts)
    return float(lin(steps.token_knots, steps.token_s, tokens).sum() + pairs * steps.pair_s[:, 0].sum())


def test_every_measured_step_comes_back(profile):
    steps = table(profile(*PREFILL, *DECODE))
    for row in PREFILL:
        _, tokens, _, _, seconds = row.split(",")
        assert prefill_step_s(steps, [int(tokens)]) == pytest.approx(float(seconds))
    for row in DECODE:
        _, _, batch, context, seconds = row.split(",")
        keys = int(batch) * (int(context) + 1)
        assert decode_s(steps, int(batch), np.array([keys]))[0, 0] == pytest.approx(float(seconds))


def test_between_rows_time_is_linear(profile):
    steps = table(profile(*PREFILL, *DECODE))
    assert prefill_step_s(steps, [320]) == pytest.approx(0.040)
    assert decode_s(steps, 8, np.array([8 * 551]))[0, 0] == pytest.approx(0.0155)


def test_packed_prompts_tell_attention_from_the_rest(profile):
    """2,048 tokens as one prompt or as four: the difference is attention of 2,098,176 - 525,312 pairs."""
    rows = [*PREFILL, "prefill,2048,4,0,0.230", *DECODE]
    steps = table(profile(*rows))
    assert steps.pair_s[0, 0] == pytest.approx(0.030 / (2_098_176 - 525_312))
    assert prefill_step_s(steps, [512] * 4) == pytest.approx(0.230)
    assert prefill_step_s(steps, [2048]) == pytest.approx(0.260)


def test_stages_take_their_share_of_the_layers(profile):
    path = profile(*PREFILL, *DECODE)
    steps = table(path, ((0,), 15), ((1,), 45))
    assert steps.token_s[1] == pytest.approx(3 * steps.token_s[0])
    assert prefill_step_s(steps, [512]) == pytest.approx(0.060)


def test_parquet_reads_as_csv_does(profile, tmp_path):
    path = profile(*PREFILL, *DECODE)
    duckdb.sql(f"COPY (FROM read_csv('{path}')) TO '{tmp_path / 'mine.parquet'}' (FORMAT parquet)")
    same = zip(table(path), table(tmp_path / "mine.parquet"), strict=True)
    assert all(np.array_equal(a, b) for a, b in same)


def test_a_prefill_replica_needs_no_decode_rows(profile):
    steps = table(profile(*PREFILL), phase=Phase.PREFILL)
    assert prefill_step_s(steps, [512]) == pytest.approx(0.060)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "prefill,128,1,0,fast",
            r"mine\.csv: seconds: row 1: must be a number .* \(got 'fast'\); seconds are whole steps",
        ),
        ("prefill,128,1,0,-1", r"seconds: row 1: must be a number"),
        ("prefill,0,1,0,1", r"tokens: row 1: must be a number of at least 1"),
        ("prefil,128,1,0,1", r"phase: row 1: is no phase \(got 'prefil'\); prefill or decode"),
        ("decode,8,4,0,1", r"tokens: row 1: 4 sequences do not fit .* one new token a sequence"),
        ("prefill,2,4,0,1", r"tokens: row 1: 4 sequences do not fit .* counts all prompts together"),
        ("prefill,128,1", r"context: row 1: must be a number"),
    ],
)
def test_a_wrong_row_is_named(profile, row, message):
    with pytest.raises(SpecError, match=message):
        table(profile(row))


def test_wrong_columns_are_named(profile):
    with pytest.raises(SpecError, match=r"second: unknown column; did you mean 'seconds'"):
        table(profile("prefill,1,1,0,1", header="phase,tokens,batch,context,second"))
    with pytest.raises(SpecError, match=r"seconds: is missing; add the column seconds"):
        table(profile("prefill,1,1,0", header="phase,tokens,batch,context", name="b.csv"))


def test_missing_files_empty_files_and_missing_phases_are_named(profile, tmp_path):
    with pytest.raises(SpecError, match=r"none\.csv: cannot be read"):
        table(tmp_path / "none.csv")
    with pytest.raises(SpecError, match=r"none\.parquet: cannot be read"):
        table(tmp_path / "none.parquet")
    with pytest.raises(SpecError, match="has no rows"):
        table(profile(name="empty.csv"))
    with pytest.raises(SpecError, match=r"has no decode rows for llama-30b on A40 at TP 1; .*any GPU TP 1 prefill"):
        table(profile(*PREFILL, name="half.csv"))


def test_rows_of_other_cards_do_not_count(profile):
    rows = [f"{row},L4,1" for row in PREFILL + DECODE]
    path = profile(*rows, header=HEADER + ",gpu,tp")
    with pytest.raises(SpecError, match=r"has no prefill rows for llama-30b on A40 at TP 1; .*L4 TP 1 decode"):
        table(path)
