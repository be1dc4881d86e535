"""``harness serve`` as a user meets it: a process, a ready line, HTTP, an interrupt."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

for needed in ("torch", "transformers", "aiohttp"):
    pytest.importorskip(needed, reason=f"serving needs {needed}")
pytest.importorskip("thunderserve.engine.front.app", reason="the HTTP front is not there")

PLAN: dict[str, Any] = {
    "system": "by hand",
    "replicas": [
        {"phase": "prefill", "stages": [{"devices": [0], "num_layers": 3}], "batching": {"policy": "saturation"}},
        {"phase": "decode", "stages": [{"devices": [1], "num_layers": 3}], "batching": {"policy": "continuous"}},
    ],
    "flows": [{"prefill": 0, "decode": 1, "share": 1}],
}
COMMAND = (sys.executable, "-c", "import typer; from harness.cli.serve import serve; typer.run(serve)")


def fetch(url: str, body: Any = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def started(folder: Path) -> subprocess.Popen[str]:
    (folder / "plan.json").write_text(json.dumps(PLAN))
    options = ["plan.json", "--model", "model", "--port", "0", "--kv-gib", "0.02", "--codec", "int4", "--logs", "logs"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [*COMMAND, *options], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_an_interrupt_while_it_starts_ends_it_too(tmp_path: Path) -> None:
    from thunderserve.engine.checkpoint.tiny import tiny

    tiny(tmp_path / "model")
    serving = started(tmp_path)
    try:
        while not (tmp_path / "logs" / "worker-1.log").exists():
            assert serving.poll() is None
            time.sleep(0.02)
        serving.send_signal(signal.SIGTERM)
        out, err = serving.communicate(timeout=60)
        assert (serving.returncode, out) == (0, ""), err
        assert "Traceback" not in err
    finally:
        serving.kill()
        serving.wait()


@pytest.mark.slow
def test_a_plan_is_served_until_an_interrupt(tmp_path: Path) -> None:
    from thunderserve.engine.checkpoint.tiny import tiny

    tiny(tmp_path / "model")
    serving = started(tmp_path)
    try:
        assert serving.stdout is not None
        ready = serving.stdout.readline()
        found = re.fullmatch(r"ready: (http://127\.0\.0\.1:\d+) \(2 workers, [\d.]+ s\)\n", ready)
        assert found, ready + (serving.communicate(timeout=30)[1] if not ready else "")
        url = found[1]
        health = json.loads(fetch(f"{url}/health"))
        assert health["status"] == "ok"
        answer = json.loads(fetch(f"{url}/v1/completions", {"model": "model", "prompt": "Hello", "max_tokens": 8}))
        assert answer["usage"]["completion_tokens"] <= 8
        samples = [
            line for line in fetch(f"{url}/metrics").splitlines() if line.startswith("thunderserve_worker_alive")
        ]
        assert len(samples) == 2
        assert all(float(line.split()[-1]) == 1 for line in samples)
        serving.send_signal(signal.SIGINT)
        out, err = serving.communicate(timeout=30)
        assert (serving.returncode, out) == (0, ""), err
        for worker in health["workers"]:
            with pytest.raises(ProcessLookupError):
                os.kill(worker["pid"], 0)
    finally:
        serving.kill()
        serving.wait()
