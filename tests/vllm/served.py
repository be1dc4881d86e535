"""Real vLLM, in its own environment, on the real small model. Without the environment every test here says so and is skipped.

One prefill and one decode instance serve behind our coordinator, all started by ``harness serve --engine vllm`` as a user would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunderserve.engine.vllm import figures
from thunderserve.engine.vllm.launch import interpreter
from thunderserve.engine.vllm.options import AttendantOptions

MODEL = "smollm2-135m"
READY_S = 600.0
BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")


def plan_on(prefill: tuple[int, ...]) -> dict[str, Any]:
    """One prefill instance on these devices, one decode instance on the next."""
    first, second = ({"devices": list(devices), "num_layers": 30} for devices in (prefill, (len(prefill),)))
    return {
        "system": "by hand",
        "flows": [{"prefill": 0, "decode": 1, "share": 1.0}],
        "replicas": [
            {"stages": [first], "phase": "prefill", "batching": {"policy": "saturation"}},
            {"stages": [second], "phase": "decode", "batching": {"policy": "continuous"}},
        ],
    }


def ask(url: str, path: str, body: dict[str, Any] | None = None, timeout_s: float = 400.0) -> Any:
    """The answer as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return json.load(answer)


@dataclass
class Served:
    """A coordinator with its instances."""

    url: str
    instances: tuple[str, ...]
    process: subprocess.Popen[bytes]

    def health(self) -> dict[str, Any]:
        """As the front tells it; while nobody can serve it answers 503, with the same content."""
        try:
            found: dict[str, Any] = ask(self.url, "/health")
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def quiet(self, patience_s: float = 30.0) -> None:
        """Wait until both instances say that they run nothing and hold no block. vLLM's figures lag behind its answers."""
        until_s = time.monotonic() + patience_s
        busy: list[dict[str, float]] = []
        while time.monotonic() < until_s:
            found = [self.figures(one) for one in (0, 1)]
            busy = [{name: one[name] for name in BUSY if one[name]} for one in found]
            if not any(busy):
                return
            time.sleep(0.2)
        raise AssertionError(f"still busy after {patience_s:g} s: {busy}")

    def pid(self, replica: int) -> int:
        """Of a vLLM instance."""
        return int(self.health()["workers"][replica]["pid"])

    def figures(self, replica: int) -> dict[str, float]:
        """vLLM's own."""
        with urllib.request.urlopen(self.instances[replica] + "/metrics", timeout=60) as page:
            return figures.read(page.read().decode())

    def complete(self, prompt: Any, tokens: int, **more: Any) -> dict[str, Any]:
        """One greedy answer."""
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True} | more
        found: dict[str, Any] = ask(self.url, "/v1/completions", body)
        return found


def start(folder: Path, *options: str, prefill: tuple[int, ...] = (0,)) -> Served:
    """``harness serve``, once it is ready; ``prefill``: devices of the prefill instance, which is as many ranks."""
    plan, out = folder / "plan.json", folder / "serve.out"
    plan.write_text(json.dumps(plan_on(prefill)))
    command = [
        str(Path(sys.executable).parent / "harness"), "serve", str(plan), "--engine", "vllm", "--model", MODEL,
        "--max-context", "2048", "--port", "0", "--logs", str(folder / "logs"), "--quiet", *options,
    ]  # fmt: skip
    with out.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | {"THUNDERSERVE_VLLM_PYTHON": interpreter()}
        )
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s and process.poll() is None:
        text = out.read_text()
        if "ready: " in text:
            url = text.split("ready: ")[1].split()[0]
            return Served(url, tuple(_urls(process.pid)), process)
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    raise AssertionError(f"vLLM did not come up: {out.read_text()[-3000:]}")


def _urls(parent: int) -> Iterator[str]:
    """Of the instances: what their attendants were told."""
    import psutil

    told = [child.cmdline() for child in psutil.Process(parent).children()]
    options = [AttendantOptions.from_json(line[-1]) for line in told if "thunderserve.engine.vllm" in line]
    yield from (one.url for one in sorted(options, key=lambda one: one.replica))


def end(served: Served) -> None:
    """As a user would."""
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(60)
