"""A slow network made by the kernel, not by the sender: a network namespace whose loopback ``tc`` throttles. Needs root."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RATE_BITS = 80_000_000
PROGRAM = """
import json, time
import numpy as np
from thunderserve.engine.transfer.events import Completed, Offered
from thunderserve.engine.transfer.receiver import Receiver
from thunderserve.engine.transfer.sender import Sender

receiver, sender = Receiver(), Sender()
k = np.random.default_rng(0).standard_normal((1000, 4, 64)).astype(np.float16)
out = sender.start(1, receiver.address, layers=8, tokens=1000)
for layer in range(8):
    out.put(layer, 0, k, k)
out.close()
while not isinstance(event := receiver.events.get(30.0), Completed):
    if isinstance(event, Offered):
        start_s = time.monotonic()
        receiver.grant(1)
receiver.confirm(1)
print(json.dumps({"seconds": time.monotonic() - start_s, "bytes": event.bytes}))
sender.close()
receiver.close()
"""


def in_namespace(*setup: str) -> list[str]:
    lines = ["set -e", "ip link set lo up", *setup, 'exec "$0" -c "$1"']
    return ["unshare", "--net", "sh", "-c", "\n".join(lines), sys.executable, PROGRAM]


def test_a_link_that_tc_throttles_takes_bytes_over_its_rate():
    if missing := [tool for tool in ("unshare", "ip", "tc") if shutil.which(tool) is None]:
        pytest.skip(f"{' and '.join(missing)} must be installed to make a slow network")
    bucket = f"tc qdisc add dev lo root tbf rate {RATE_BITS}bit burst 128kb latency 400ms"
    probe = subprocess.run(
        ["unshare", "--net", "sh", "-c", f"ip link set lo up && {bucket}"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"network namespaces with tc are not permitted here: {probe.stderr.strip()}")
    run = subprocess.run(in_namespace(bucket), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    expected_s = found["bytes"] * 8 / RATE_BITS
    assert 0.85 * expected_s < found["seconds"] < 1.3 * expected_s + 0.1, (
        "within what headers, acknowledgements and a burst make"
    )
