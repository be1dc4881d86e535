"""What a workload promises: the same trace for the same seed, limits that are kept and counted, names, and refusals."""

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.spec.catalogue import names
from thunderserve.spec.errors import SpecError
from thunderserve.workload import Workload, WorkloadFile, load

GOLDEN = {
    "azure-code": "b37e675a4cb4db3c",
    "azure-conv": "58d827266660f253",
    "azure-conv-bursty": "58378265cc455b8f",
    "azure-mixed": "0a63f30a5efa1be8",
    "azure-shift": "71bc6da8add9ff57",
    "chat-short": "edcf7e66d32c8840",
    "fixed-1024-16": "9736ebaa5652485c",
    "fixed-512-128": "38663ace978d7273",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    """The same bytes on any machine: if this fails, published results belong to other requests than ours."""
    assert load(name).trace(1000, 4.0, 1, max_context=2048).digest[:16] == GOLDEN[name]


def test_every_shipped_workload_has_a_golden_trace():
    assert names("workloads") == sorted(GOLDEN)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(GOLDEN)), st.integers(1, 400), st.floats(0.1, 100), st.integers(0, 2**40),
    st.one_of(st.none(), st.integers(1100, 9000)),
)  # fmt: skip
def test_a_trace_keeps_its_promises(name, requests, rate, seed, context):
    workload = load(name)
    trace = workload.trace(requests, rate, seed, max_context=context)
    assert len(trace) == requests
    assert trace.digest == workload.trace(requests, rate, seed, max_context=context).digest
    assert context is None or (trace.prompt_tokens + trace.output_tokens).max() <= context
    assert (context is None) <= (trace.dropped == {})


def test_seeds_differ_and_a_planner_never_sees_the_trace():
    workload = load("azure-conv")
    served = {workload.trace(100, 1.0, seed).digest for seed in range(20)}
    planned = {workload.sample(100, 1.0, seed).digest for seed in range(20)}
    assert len(served | planned) == 40


def test_dropped_counts_what_was_drawn_in_vain(tmp_path):
    (tmp_path / "t.csv").write_text("input_tokens,output_tokens\n100,5\n0,5\n100,60\n300,5\n80,30\n")
    workload = load({"path": "t.csv", "max_prompt": 200, "max_output": 50}, beside=tmp_path)
    trace = workload.trace(10_000, 1.0, 0, max_context=108)
    assert set(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)) == {(100, 5)}
    # Each of the five rows is drawn alike; one of them fits.
    reasons = {"no prompt or no output", "output > 50", "prompt > 200", "prompt + output > 108"}
    assert set(trace.dropped) == reasons
    for count in trace.dropped.values():
        assert count == pytest.approx(10_000, rel=0.06)


def test_replay_counts_only_up_to_the_last_row_it_takes(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,9,1\n1,99,1\n2,9,2\n3,99,2\n")
    workload = load({"path": "t.csv", "arrivals": "replay"}, beside=tmp_path)
    assert workload.replays
    assert workload.trace(2, None, 0, max_context=50).dropped == {"prompt + output > 50": 1}
    assert workload.trace(None, None, 0, max_context=50).dropped == {"prompt + output > 50": 2}
    assert len(workload.trace(100, None, 0)) == 4
    sample = workload.sample(100, 5.0, 0)
    assert len(sample) == 100
    assert sample.offered_rate_per_s == pytest.approx(5.0, rel=0.4)


def test_a_workload_that_never_fits_says_so():
    with pytest.raises(ValueError, match=r"none of 1\d\d,\d\d\d requests fits: prompt \+ output > 1000"):
        load("fixed-1024-16").trace(10, 1.0, 0, max_context=1000)


@pytest.mark.parametrize(
    ("requests", "rate", "reason"),
    [
        (0, 1.0, "a trace needs at least one request, not 0"),
        (10, -1.0, "the rate must be positive, not -1.0 requests/s"),
        (10, float("inf"), "the rate must be positive, not inf requests/s"),
        (None, 1.0, "azure-conv: generated arrivals need a number of requests and a rate"),
        (10, None, "azure-conv: generated arrivals need a number of requests and a rate"),
    ],
)
def test_impossible_demands(requests, rate, reason):
    with pytest.raises(ValueError) as caught:
        load("azure-conv").trace(requests, rate, 0)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("azure-code", "azure-code"),
        ({"name": "azure-code"}, "azure-code"),
        ({"name": "azure-code", "arrivals": {"kind": "gamma", "cv": 4}}, "azure-code[arrivals=gamma,cv=4]"),
        ({"base": "azure-code", "max_prompt": 100}, "azure-code[max_prompt=100]"),
        ({"name": "mine", "base": "azure-code", "max_prompt": 100}, "mine"),
        ({"lengths": {"kind": "constant", "prompt": 1, "output": 1}}, ""),
        ("configs/workloads/azure-shift.yaml", "azure-shift"),
    ],
)
def test_names(spec, name):
    assert load(spec).name == name


def test_what_is_laid_over_a_base():
    workload = load({"base": "azure-conv-bursty", "max_output": 100})
    assert isinstance(workload, Workload)
    assert (workload.arrivals.kind, workload.limits.output) == ("gamma", 100)
    assert load({"base": "azure-conv-bursty", "arrivals": "constant"}).arrivals.kind == "constant"


WRONG = {
    "unknown key": (
        "lengths:\n  kind: lognormal\n  prompt: {medain: 9, sigma: 1}\n  output: {median: 9, sigma: 1}\n",
        "{file}:3: lengths.prompt.medain: unknown key; did you mean 'median'?",
    ),
    "unknown kind": (
        "lengths: {kind: constant, prompt: 1, output: 1}\narrivals: {kind: gama, cv: 2}\n",
        "{file}:2: arrivals: unknown kind (got 'gama'); did you mean 'gamma'?",
    ),
    "unknown arrivals": (
        "lengths: {kind: constant, prompt: 1, output: 1}\narrivals: poison\n",
        "{file}:2: arrivals: unknown kind (got 'poison'); did you mean 'poisson'?",
    ),
    "no kind": ("lengths: {prompt: 1, output: 1}\n", "{file}:1: lengths: does not say its kind; add the key 'kind'"),
    "impossible value": (
        "lengths: {kind: constant, prompt: 0, output: 1}\n",
        "{file}:1: lengths.prompt: input should be greater than 0 (got 0)",
    ),
    "wrong unit": (
        "base: azure-code\nsegments:\n  - {duration: 60 GB, factor: 2}\n",
        "{file}:3: segments[0].duration: has the unit 'GB', but a duration is wanted; "
        "write for example '200 ms' (got '60 GB')",
    ),
    "no unit": (
        "base: azure-code\nsegments:\n  - {duration: 60, factor: 2}\n",
        "{file}:3: segments[0]: duration has no unit; write for example '200 ms', or duration_s with a plain SI number",
    ),
    "missing file": (
        "path: none.csv\n",
        "{file}:1: path: no such file (got 'none.csv'); give a path from the folder of this file or from the working folder",
    ),
    "missing table": (
        "name: x\nlengths: {kind: table, path: none.csv}\n",
        "{file}:2: lengths: no such file (got 'none.csv'); give a path from the folder of this file or from the "
        "working folder",
    ),
    "unknown base": (
        "base: azure-cod\n",
        "{file}:1: base: unknown workload (got 'azure-cod'); did you mean 'azure-code'?",
    ),
    "unknown part": (
        "lengths:\n  kind: mixture\n  parts:\n    - {weight: 1, workload: azure-code}\n    - {weight: 1, workload: azure-com}\n",
        "{file}:5: lengths.parts[1].workload: unknown workload (got 'azure-com'); did you mean 'azure-conv'?",
    ),
    "replay of no times": (
        "base: azure-code\narrivals: replay\n",
        "{file}:2: arrivals: replay needs timestamps, and these lengths have none; give path: a trace file with an "
        "arrival column ('harness trace fetch azure' gets the Azure traces)",
    ),
    "two sources": (
        "base: azure-code\npath: x.csv\n",
        "{file}:1: give one of base, path and lengths, not base and path",
    ),
    "no source": ("description: nothing\n", "{file}:1: give one of base, path and lengths"),
    "cv and burstiness": (
        "base: azure-code\narrivals: {kind: gamma, cv: 2, burstiness: 0.25}\n",
        "{file}:2: arrivals: give either cv or burstiness (1 / cv**2)",
    ),
    "shares that do not add up": (
        "base: azure-code\nsegments: [{share: 0.5}, {share: 0.4, factor: 2}]\n",
        "{file}:1: the shares of the segments sum to 0.9, not 1",
    ),
    "two measures": (
        "base: azure-code\nsegments: [{share: 1.0}, {requests: 4}]\n",
        "{file}:1: all segments must be measured alike: share, requests or duration",
    ),
    "mean and median": (
        "lengths:\n  kind: lognormal\n  prompt: {median: 9, mean: 9, sigma: 1}\n  output: {median: 9, sigma: 1}\n",
        "{file}:3: lengths.prompt: give either mean or median",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_said_in_one_line(case, tmp_path):
    text, message = WRONG[case]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load(str(path))
    assert str(caught.value) == message.format(file=path)


def test_an_error_in_a_mapping_names_the_place_it_came_from(tmp_path):
    with pytest.raises(SpecError) as caught:
        load({"base": "azure-code", "arivals": "poisson"}, file=tmp_path / "sweep.yaml", at=("workloads", 1))
    assert str(caught.value) == (
        f"{tmp_path / 'sweep.yaml'}: workloads[1].arivals: unknown key; did you mean 'arrivals'?"
    )


def test_a_file_built_on_itself(tmp_path):
    (tmp_path / "a.yaml").write_text("base: ./b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: ./a.yaml\n")
    with pytest.raises(SpecError, match="is built on itself"):
        load(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    "text", ["", "# only\n", "a,1-2\n", "a,1-2\n5-3,1\n", "a,0-2\n1,1\n", "a,1-2\n1,x\n", "a,1\n1,\n"]
)
def test_a_table_that_is_none_is_refused(text, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SpecError, match=r"t\.csv"):
        load({"lengths": {"kind": "table", "path": "t.csv"}}, beside=tmp_path)


def test_the_schema_knows_what_the_loader_knows():
    schema = WorkloadFile.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "max_prompt" in schema["properties"]
    assert {"GammaArrivals", "LognormalLengths", "Segment"} <= set(schema["$defs"])
    assert json.dumps(schema)


def test_a_million_requests_take_little_memory_and_stay_in_order():
    trace = load("azure-conv").trace(1_000_000, 1000.0, 0, max_context=2048)
    assert len(trace) == 1_000_000
    assert (np.diff(trace.arrival_s) >= 0).all()
    assert trace.offered_rate_per_s == pytest.approx(1000, rel=4e-3)
