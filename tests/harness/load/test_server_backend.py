"""Any OpenAI-compatible server as a backend: started by a command, and found at a URL."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.load.backend import Server, ServerError
from thunderserve.backend import Deployment
from thunderserve.engine.vllm.launch import free_ports
from thunderserve.serving.records import Status
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster, load_model
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage
from thunderserve.spec.trace import Trace

SCRIPT = str(Path(__file__).parent / "serve_scripted.py")
COMMAND = f"{shlex.quote(sys.executable)} {shlex.quote(SCRIPT)} {{port}}"
TRACE = Trace(np.array([0.0, 0.1, 0.2]), np.array([5, 6, 7]), np.array([3, 7, 9]))
"""The second asks for seven tokens, which this server is too busy for."""


def deployment() -> Deployment:
    model = load_model("smollm2-135m")
    stage = Stage(devices=(0,), num_layers=model.num_layers)
    replica = Replica(stages=(stage,), phase=Phase.BOTH, batching=Batching(policy="chunked"))
    return Deployment(
        Plan(system="any", replicas=(replica,), flows=(Flow(prefill=0, decode=0, share=1.0),)),
        load_cluster("local-2"),
        model,
    )


def test_a_command_is_started_measured_and_ended() -> None:
    served = Server(command=COMMAND).serve(deployment(), TRACE)
    records = served.records
    assert records.status.tolist() == [Status.FINISHED, Status.FAILED, Status.FINISHED]
    assert records.arrival_s.tolist() == TRACE.arrival_s.tolist()
    assert records.output_tokens.tolist() == [3, 7, 9]
    latencies = records.latencies
    assert np.all(latencies.ttft_s[[0, 2]] >= 0.02)
    assert np.all(latencies.tpot_s[[0, 2]] >= 0.009)
    assert served.counters["unfinished"] == 1
    assert served.counters["answers_of_another_length"] == 0
    assert 0 <= served.counters["dispatch_slip_p99_s"] < 1
    assert not [one for one in psutil.Process().children(recursive=True) if SCRIPT in one.cmdline()]


def test_a_running_server_is_left_running() -> None:
    port = free_ports(1)[0]
    process = subprocess.Popen([sys.executable, SCRIPT, str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url)
        served = Server(url=url, model="scripted").serve(deployment(), TRACE)
        assert served.records.finished.sum() == 2
        assert process.poll() is None
        with pytest.raises(SpecError, match="has no such model"):
            Server(url=url, model="other").serve(deployment(), TRACE)
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/v1/models").close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("not up")


@pytest.mark.parametrize(
    ("command", "words"),
    [("false", "ended with 1"), ("sleep 30", "not ready within 1 s"), ("does-not-exist-anywhere", "cannot be started")],
)
def test_a_command_that_does_not_serve_is_an_error_in_words(command: str, words: str) -> None:
    with pytest.raises(ServerError, match=words):
        Server(command=command, ready_s=1).serve(deployment(), TRACE)


def test_a_server_that_answers_nothing_is_no_result() -> None:
    only = Trace(np.array([0.0]), np.array([5]), np.array([7]))
    with pytest.raises(ServerError, match="answered none of 1 requests: HTTP 503"):
        Server(command=COMMAND).serve(deployment(), only)


def test_an_unknown_blank_is_refused() -> None:
    with pytest.raises(SpecError, match="cannot be filled in"):
        Server(command="serve {prot}").serve(deployment(), TRACE)
