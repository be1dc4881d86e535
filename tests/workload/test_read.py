"""Trace files of every known kind, read back as they were written, and wrong ones refused by line."""

import csv
import gzip
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.spec.errors import SpecError
from thunderserve.workload.file import Columns
from thunderserve.workload.read import KNOWN, read_rows

ROWS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=30)


def write(path, kind, columns, rows, order):
    """``rows`` with arrivals as integers of the column's unit."""
    names = [columns.arrival, columns.prompt, columns.output]
    lines = [dict(zip(names, row, strict=True)) | {"other": "x"} for row in rows]
    names = [[*names, "other"][place] for place in order]
    if kind == "csv":
        text = io.StringIO()
        table = csv.DictWriter(text, names)
        table.writeheader()
        table.writerows(lines)
        content = text.getvalue()
    else:
        content = "".join(json.dumps(line) + "\n" for line in lines)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@settings(max_examples=60, deadline=None)
@given(
    ROWS,
    st.sampled_from([columns for columns in KNOWN.values() if columns.arrival]),
    st.sampled_from(["csv", "csv.gz", "jsonl", "jsonl.gz"]),
    st.permutations(range(4)),
)
def test_what_is_written_is_read(tmp_path_factory, rows, columns, ending, order):
    path = tmp_path_factory.mktemp("traces") / f"t.{ending}"
    write(path, ending.split(".")[0], columns, rows, order)
    found = read_rows(path)
    by_arrival = sorted(rows, key=lambda row: row[0])
    assert found.prompt.tolist() == [row[1] for row in by_arrival]
    assert found.output.tolist() == [row[2] for row in by_arrival]
    unit = {"s": 1, "ms": 1000}[columns.unit]
    assert found.arrival_s.tolist() == [(row[0] - by_arrival[0][0]) / unit for row in by_arrival]


def test_dates_keep_their_ticks(tmp_path):
    """Azure counts in 100 ns; a double of seconds since 1970 would lose them."""
    path = tmp_path / "t.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
        "2023-11-16 23:59:59.9799600,4808,10\r\n2023-11-17 00:00:00.0319601,3180,8\r\n"
    )
    assert read_rows(path).arrival_s.tolist() == [0.0, 0.0520001]


@pytest.mark.parametrize("text", ["2024-05-10T00:00:01.5Z", "2024-05-10 00:00:01.500+00:00", "2024-05-10 00:00:01.5"])
def test_dates_in_other_clothes(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,1,1\n{text},2,2\n")
    assert read_rows(path).arrival_s.tolist() == [0.0, 1.5]


def test_lengths_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("input_tokens,output_tokens\n6,34\n6,9\n")
    found = read_rows(path)
    assert found.arrival_s is None
    assert found.output.tolist() == [34, 9]


def test_named_columns(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"t": 1500, "in": 3, "out": 4.0}\n\n{"t": 500, "in": 1, "out": 2}\n')
    found = read_rows(path, Columns(arrival="t", prompt="in", output="out", unit="us"))
    assert found.prompt.tolist() == [1, 3]
    assert found.arrival_s.tolist() == [0.0, 0.001]


KNOWN_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
WRONG = {
    "a length that is none": (
        "t.csv", KNOWN_HEADER + "1,2,3\n2,many,3\n",
        "{file}:3: ContextTokens: is not a number of tokens (got 'many'); write a whole number, 0 or more",
    ),
    "a negative length": (
        "t.csv", KNOWN_HEADER + "1,2,-3\n",
        "{file}:2: GeneratedTokens: is not a number of tokens (got '-3'); write a whole number, 0 or more",
    ),
    "half a token": (
        "t.jsonl", '{"timestamp": 1, "input_length": 1.5, "output_length": 2}\n',
        "{file}:1: input_length: is not a number of tokens (got 1.5); write a whole number, 0 or more",
    ),
    "a missing length": (
        "t.jsonl", '{"timestamp": 1, "input_length": 1, "output_length": 2}\n{"timestamp": 1, "input_length": 1}\n',
        "{file}:2: output_length: is not a number of tokens (got 'nothing'); write a whole number, 0 or more",
    ),
    "a time that is none": (
        "t.csv", KNOWN_HEADER + "noon,2,3\n",
        "{file}:2: TIMESTAMP: is not a time (got 'noon'); write a number of s, or a date and time as "
        "2023-11-16 18:17:03.97",
    ),
    "a ragged row": ("t.csv", KNOWN_HEADER + "1,2,3\n1,2\n", "{file}:3: has 2 fields, but the header has 3"),
    "not JSON": ("t.jsonl", '{"timestamp": 1,\n', "{file}:1: is not JSON: Expecting property name enclosed in double quotes"),
    "not an object": ("t.jsonl", "[1, 2]\n", "{file}:1: is not a JSON object; write one object a line"),
    "no rows": ("t.csv", KNOWN_HEADER, "{file}: holds no requests"),
    "another ending": ("t.parquet", "x", "{file}: is not a trace file; give .csv or .jsonl, plain or .gz"),
    "not gzip": ("t.csv.gz", "x", "{file}: cannot be read: Not a gzipped file (b'x')"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_said_by_line_and_column(case, tmp_path):
    name, text, message = WRONG[case]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_rows(path)
    assert str(caught.value) == message.format(file=path)


def test_unknown_columns_name_the_known_ones(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("when,p,o\n1,2,3\n")
    with pytest.raises(SpecError) as caught:
        read_rows(path)
    assert caught.value.reason == "has columns that are not known: when, p, o"
    assert "columns: {arrival: t, prompt: p, output: o, unit: ms}" in caught.value.remedy
    with pytest.raises(SpecError) as caught:
        read_rows(path, Columns(arrival="whan", prompt="p", output="o"))
    assert str(caught.value) == f"{path}: columns: has no such column (got 'whan'); did you mean 'when'?"


def test_the_real_traces_have_their_published_sizes(azure, trace_file):
    """The published sizes of the traces: 8,819 and 19,366 requests; Mooncake's conversation trace 12,031 (mean 12,035, 343)."""
    code, conv = azure("code"), azure("conv")
    assert (len(code.prompt), len(conv.prompt)) == (8819, 19366)
    assert np.diff(code.arrival_s).std() / np.diff(code.arrival_s).mean() == pytest.approx(13.2, abs=0.05)
    assert np.diff(conv.arrival_s).std() / np.diff(conv.arrival_s).mean() == pytest.approx(1.09, abs=0.01)
    mooncake = read_rows(trace_file("mooncake", "conversation_trace.jsonl.gz"))
    assert len(mooncake.prompt) == 12_031
    assert (round(mooncake.prompt.mean()), round(mooncake.output.mean())) == (12_035, 343)
    assert mooncake.arrival_s[-1] == pytest.approx(3600, rel=0.05)
