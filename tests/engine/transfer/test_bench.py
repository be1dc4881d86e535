"""``harness bench transfer``, small: both processes, every column."""

from __future__ import annotations

import re

import pytest

from harness.bench import transfer


def test_the_bench_measures_and_compares(capsys):
    assert (
        transfer.main(["--layers", "2", "--tokens", "64", "--gbits", "0.2", "--repeats", "1", "--latency-ms", "2"]) == 0
    )
    text = capsys.readouterr().out
    assert "plain socket copy" in text
    row = next(line for line in text.splitlines() if re.match(r"│\s+0\.2 │", line))
    _gbits, raw, raw_closed, raw_simulated, int4, int4_closed, int4_simulated, *gains = map(
        float, re.findall(r"[\d.]+", row)
    )
    kv_bytes = 2 * 2 * 64 * transfer.HEADS * transfer.DIM * 2
    assert raw_closed == pytest.approx(2 + (kv_bytes + 2 * 96) * 8 / 0.2e9 * 1e3, abs=0.06)
    assert raw_simulated == pytest.approx(raw_closed, rel=0.01)
    assert raw >= 0.99 * raw_closed
    assert int4 >= 0.99 * int4_closed
    assert int4_simulated > int4_closed - 0.1, "the simulator adds encoding and decoding"
    assert gains[1] == pytest.approx(raw_closed / int4_closed, abs=0.02)
