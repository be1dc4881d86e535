"""The committed histograms against the traces they stand for, and replay against the file, row by row."""

import csv
import gzip
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from thunderserve.spec.catalogue import find
from thunderserve.workload import load
from thunderserve.workload.limits import Limits
from thunderserve.workload.table import derive

PUBLISHED = {
    # (mean, median, p90, p99) of prompts and outputs of the whole trace
    "code": ((2047.8, 1469, 5188, 7436), (27.9, 13, 55, 252)),
    "conv": ((1154.7, 1020, 2735, 4142), (211.1, 129, 424, 601)),
}
HELIX = {"code": (5510, 844, 27), "conv": (16_663, 763, 232)}
"""Requests with a prompt of at most 2,048 and an output of at most 1,024 tokens, and their mean lengths."""


def summary(values):
    return values.mean(), np.median(values), *np.quantile(values, [0.9, 0.99])


@pytest.mark.parametrize("which", PUBLISHED)
def test_a_drawn_trace_has_the_published_moments(which):
    trace = load(f"azure-{which}").trace(200_000, 1.0, 0)
    prompt, output = PUBLISHED[which]
    assert summary(trace.prompt_tokens) == pytest.approx(prompt, rel=0.015)
    assert summary(trace.output_tokens) == pytest.approx(output, rel=0.02)


@pytest.mark.parametrize("which", PUBLISHED)
def test_a_drawn_trace_under_the_helix_filter(which):
    trace = load({"base": f"azure-{which}", "max_prompt": 2048, "max_output": 1024}).trace(100_000, 1.0, 0)
    kept, prompt, output = HELIX[which]
    whole = {"code": 8819, "conv": 19_366}[which]
    drawn = len(trace) + sum(trace.dropped.values())
    assert len(trace) / drawn == pytest.approx(kept / whole, rel=0.01)
    assert trace.prompt_tokens.mean() == pytest.approx(prompt, rel=0.01)
    assert trace.output_tokens.mean() == pytest.approx(output, rel=0.03)


@pytest.mark.parametrize("which", PUBLISHED)
def test_the_histogram_against_the_trace(which, azure):
    rows, trace = azure(which), load(f"azure-{which}").trace(200_000, 1.0, 1)
    assert stats.ks_2samp(rows.prompt, trace.prompt_tokens).statistic < 0.01
    assert stats.ks_2samp(rows.output, trace.output_tokens).statistic < 0.01
    real, drawn = (
        (stats.pearsonr(p, o)[0], stats.spearmanr(p, o)[0])
        for p, o in ((rows.prompt, rows.output), (trace.prompt_tokens, trace.output_tokens))
    )
    assert drawn == pytest.approx(real, abs=0.015)
    # The joint shape, by the classes of HexGen-2: prompt above 512, output above 128.
    classes = [
        [((p > 512) == (heavy & 1 > 0)) & ((o > 128) == (heavy & 2 > 0)) for heavy in range(4)]
        for p, o in ((rows.prompt, rows.output), (trace.prompt_tokens, trace.output_tokens))
    ]
    shares = [[mask.mean() for mask in masks] for masks in classes]
    assert shares[1] == pytest.approx(shares[0], abs=0.01)


@pytest.mark.parametrize("which", PUBLISHED)
def test_the_committed_histogram_is_what_derive_gives(which, azure):
    rows = azure(which)
    path = find("workloads", f"azure-{which}").with_suffix(".csv")
    committed = "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#"))
    assert committed == derive(rows.prompt, rows.output, 64, 32)
    assert "CC-BY-4.0" in path.read_text()
    assert path.stat().st_size < 6000


@pytest.mark.parametrize("which", HELIX)
def test_the_filter_on_the_real_trace(which, azure):
    rows = azure(which)
    kept = Limits(prompt=2048, output=1024).keep(rows.prompt, rows.output)[0]
    assert (kept.sum(), round(rows.prompt[kept].mean()), round(rows.output[kept].mean())) == HELIX[which]


def plain_rows(path: Path):
    """The obvious reader: seconds from the first request, to the microsecond that a datetime holds."""
    with gzip.open(path, "rt", newline="") as text:
        rows = list(csv.DictReader(text))
    stamps = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    lengths = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]
    return [(stamp - stamps[0]).total_seconds() for stamp in stamps], lengths


@pytest.fixture
def file(trace_file):
    return trace_file("azure", "AzureLLMInferenceTrace_conv.csv.gz")


class TestReplay:
    def test_all_rows_as_they_stand(self, file):
        trace = load({"path": str(file), "arrivals": "replay"}).trace(None, None, 0)
        seconds, lengths = plain_rows(file)
        assert trace.arrival_s == pytest.approx(seconds, abs=1.1e-6)
        assert list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)) == lengths
        assert trace.dropped == {}
        assert trace.offered_rate_per_s == pytest.approx(5.53, abs=0.005)

    def test_a_context_drops_rows_and_says_how_many(self, file):
        trace = load({"path": str(file), "arrivals": "replay"}).trace(None, None, 0, max_context=2048)
        seconds, lengths = plain_rows(file)
        kept = [index for index, (prompt, output) in enumerate(lengths) if prompt + output <= 2048]
        assert trace.dropped == {"prompt + output > 2048": len(lengths) - len(kept)}
        assert trace.arrival_s == pytest.approx([seconds[index] for index in kept], abs=1.1e-6)

    def test_the_first_requests_and_a_rate(self, file):
        workload = load({"path": str(file), "arrivals": "replay"})
        recorded, scaled = workload.trace(1000, None, 0), workload.trace(1000, 2.0, 7)
        assert len(scaled) == 1000
        assert scaled.offered_rate_per_s == pytest.approx(2.0, rel=1e-9)
        assert np.array_equal(scaled.output_tokens, recorded.output_tokens)
        factor = recorded.offered_rate_per_s / 2.0
        assert scaled.arrival_s == pytest.approx(recorded.arrival_s * factor, abs=1e-8)
        fast = load({"path": str(file), "arrivals": {"kind": "replay", "speed": 4}}).trace(1000, None, 0)
        assert fast.arrival_s * 4 == pytest.approx(recorded.arrival_s, abs=1e-8)

    def test_poisson_over_the_rows_of_the_file(self, file):
        trace = load({"path": str(file)}).trace(50_000, 3.0, 0)
        assert trace.prompt_tokens.mean() == pytest.approx(1154.7, rel=0.02)
        assert trace.offered_rate_per_s == pytest.approx(3.0, rel=0.02)
