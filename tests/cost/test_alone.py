"""A request alone: the closed form against a step-by-step sum with the table's own formula, read off by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.cost.alone import Alone
from thunderserve.cost.evaluate import Shape, batch_s, decode_s, lin, prefill_s
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.trace import Trace

TABLE = StepTable(
    fixed_s=np.array([0.001, 0.002]),
    token_knots=np.array([1, 101]),
    token_s=np.array([[0.010, 0.110], [0.020, 0.220]]),  # 9 + n and 18 + 2 n milliseconds
    logit_knots=np.array([1, 2]),
    logit_s=np.array([[0.0, 0.0], [0.003, 0.004]]),
    batch_knots=np.array([1, 2]),
    context_knots=np.array([1, 1001]),
    decode_s=np.array([[[0.001, 0.002], [0.001, 0.002]], [[0.0, 0.001], [0.0, 0.001]]]),
    chunk_knots=np.array([1, 1000]),
    pair_s=np.array([[1e-6, 1e-6], [2e-6, 2e-6]]),
    chunk_s=np.array([0.0005, 0.0]),
    hop_s=np.array([0.004, 0.0]),
    hop_s_per_token=np.array([1e-5, 0.0]),
)


def trace(prompts: list[int], outputs: list[int]) -> Trace:
    return Trace(np.zeros(len(prompts)), np.array(prompts), np.array(outputs))


def test_prefill_by_hand() -> None:
    # n = 201: stage 0: 1 + (9 + 201) + 0.5 + 20301 pairs * 1 us = 231.801 ms; stage 1: 2 + (18 + 402) + 3 + 40.602 ms
    stages = prefill_s(TABLE, np.array([201]))[:, 0]
    assert stages == pytest.approx([0.001 + 0.210 + 0.0005 + 0.020301, 0.002 + 0.420 + 0.003 + 0.040602])
    alone = Alone(TABLE)(trace([201], [1]))
    assert alone.ttft_s[0] == pytest.approx(stages.sum() + 0.004 + 201e-5)
    assert np.isnan(alone.tpot_s[0])
    assert alone.e2e_s[0] == alone.ttft_s[0]


def test_a_mixed_step_by_hand() -> None:
    # Two sequences decode over 501 keys, and 100 tokens of a prompt follow 50: 102 tokens and 100 * 50 + 5,050 pairs.
    stages = batch_s(TABLE, Shape(2, 501, ((100, 50),), 2))
    assert stages[0] == pytest.approx(0.001 + 0.111 + 0.0015 + 0.0005 + 0.010050)
    assert stages[1] == pytest.approx(0.002 + 0.222 + 0.004 + 0.0005 + 0.020100)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 3000))
def test_a_step_of_one_kind_is_that_kind_s(prompt: int, batch: int, keys: int) -> None:
    assert batch_s(TABLE, Shape(0, 0, ((prompt, 0),), 1)) == pytest.approx(prefill_s(TABLE, np.array([prompt]))[:, 0])
    decoding = batch_s(TABLE, Shape(batch, keys, (), batch))
    assert decoding == pytest.approx(decode_s(TABLE, batch, np.array([keys]))[:, 0])


@given(st.integers(1, 300), st.integers(2, 200))
def test_decode_is_the_sum_of_its_steps(prompt: int, output: int) -> None:
    alone = Alone(TABLE)(trace([prompt], [output]))
    total = 0.0
    for keys in range(prompt + 1, prompt + output):
        stage0 = 0.001 + 0.010 + 0.001 + (keys - 1) / 1000 * 0.001
        stage1 = 0.002 + 0.020 + 0.003 + (keys - 1) / 1000 * 0.001
        total += stage0 + 0.004 + 1e-5 + stage1
    assert alone.e2e_s[0] - alone.ttft_s[0] == pytest.approx(total, rel=1e-9)
    assert alone.tpot_s[0] == pytest.approx(total / (output - 1), rel=1e-9)


def test_lin_continues_the_last_segments() -> None:
    knots, values = np.array([10, 20, 40]), np.array([[1.0, 2.0, 6.0]])
    assert lin(knots, values, np.array([0, 10, 15, 30, 60]))[0] == pytest.approx([0.0, 1.0, 1.5, 4.0, 10.0])


def test_decode_reads_the_batch_between_its_knots() -> None:
    table = TABLE._replace(batch_knots=np.array([1, 3]), decode_s=TABLE.decode_s * np.array([1.0, 3.0])[None, :, None])
    middle = decode_s(table, 2, np.array([501]))[0, 0]
    assert middle == pytest.approx(0.001 + 0.011 + 2 * (0.001 + 0.0005))
