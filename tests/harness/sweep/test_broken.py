"""Sweep files that are wrong, each with the one message it must give, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import metrics
from harness.sweep.resolve import resolve
from harness.sweep.source import read
from thunderserve.spec.errors import SpecError

BROKEN = Path(__file__).parent / "broken"

MESSAGES = {
    "unknown_key": ":3: cluster: unknown key; did you mean 'clusters'?",
    "unknown_system": ":4: systems[1]: unknown system (got 'distserv'); did you mean 'distserve'?",
    "unknown_option": ":4: systems[0].afinity: unknown option of distserve; did you mean 'affinity'?",
    "wrong_option_value": ":5: systems[1].affinity: input should be 'auto', 'high' or 'low' (got 'middling')",
    "unknown_cluster": ":5: clusters[1]: unknown cluster (got 'cloud-23'); did you mean 'cloud-32'?",
    "unknown_metric": ":8: metrics[1]: unknown metric (got 'good_put'); did you mean 'goodput'?",
    "wrong_unit": ":8: slo.ttft: has the unit 'MB', but a duration is wanted; write for example '200 ms' (got '500 MB')",
    "impossible_value": ":6: rate[1]: input should be greater than 0 (got 0)",
    "two_kinds_of_slo": ":7: slo: give one of: scale, absolute limits (ttft, tpot, e2e), or a list of objectives",
    "missing_trace": (
        ":7: workloads[1].path: no such file (got 'traces/not_there.csv'); "
        "give a path from the folder of this file or from the working folder"
    ),
    "no_rate": (
        ":1: rate: is missing, and azure-code has no arrival times of its own; "
        "give rate: [1, 2], or arrivals: replay for a trace with times"
    ),
    "not_yaml": ":3: is not YAML: expected ',' or ']', but got ':'",
    "missing_key": ":1: models: is missing; add the key 'models'",
    "unknown_backend_option": ":2: backend[1].urll: unknown option of openai; did you mean 'url'?",
    "wrong_backend_option": (
        ":2: backend[0].warm_up: input should be a valid integer, unable to parse string as an integer (got 'many')"
    ),
    "server_without_address": (
        ":2: backend[0]: wants one of url and command; {name: openai, url: http://127.0.0.1:8000}, "
        "or {name: openai, command: 'server --port {port}'}"
    ),
    "not_a_backend_of_the_sweep": (
        ":3: systems[1].backends: is none of the sweep's backends (got 'engin'); did you mean 'engine'?"
    ),
    "hidden_simulation": ":2: backend: a label must not hide or claim that a backend is simulated",
    "same_twice": ":2: systems[1]: is there already (got 'vllm'); give one of them a label",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_broken_file_says_where_what_and_what_instead(name: str) -> None:
    path = BROKEN / f"{name}.yaml"
    with pytest.raises(SpecError) as caught:
        resolve(read(path))
    assert str(caught.value) == f"{path}{MESSAGES[name]}"


def test_every_broken_file_has_its_message() -> None:
    assert {path.stem for path in BROKEN.glob("*.yaml")} == set(MESSAGES)
    assert "goodput" in metrics.names()


GOOD = """\
name: good
systems: [vllm]
clusters: [inhouse-8xa100]
models: [llama-30b]
workloads: [azure-code]
rate: [1, 2]
slo: {scale: [5]}
"""


OVERRIDES = {
    "rate=[1,x]": "rate[1]: is not a rate; write a number and a unit, as in '4 requests/s' (got 'x')",
    "reqests=5": "reqests: unknown key; did you mean 'requests'?",
    "slo.scal=[5]": "slo.scal: unknown key; did you mean 'scale'?",
    "models=[llama-31b]": "models[0]: unknown model (got 'llama-31b'); did you mean 'llama-30b'?",
    "systems.4.name=vllm": (
        "systems.4.name: there is no 4 to override; name a key of the sweep file, as in slo.scale=[5]"
    ),
    "rate": "is not of the form key=value; write for example rate=[1,2]",
    "rate=[1": "rate: the value is not YAML: while parsing a flow sequence",
}


@pytest.mark.parametrize(("override", "message"), OVERRIDES.items())
def test_a_broken_override_says_that_it_is_one(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    with pytest.raises(SpecError) as caught:
        resolve(read(path, [override]))
    assert str(caught.value) == f"override {override!r}: {message}"


def test_overrides_replace_and_add(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    given = ["rate=[4, 8]", "slo.scale=[2, 3]", "seeds=[7]", "wandb.mode=disabled", "systems[0]={name: vllm, tp: 4}"]
    sweep = resolve(read(path, given)).sweep
    assert sweep.rates == (4.0, 8.0)
    assert sweep.slo.scale == (2.0, 3.0)
    assert sweep.seeds == (7,)
    assert sweep.wandb is not None
    assert sweep.wandb.mode == "disabled"
    assert sweep.systems[0].shown == "vllm[tp=4]"
