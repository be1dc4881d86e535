"""The same in 4 bit: how often the greedy answer is the same is reported, not asserted; a link that breaks is survived."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from served import Served, end, start
from test_split import alone, handed_over, prompt

TOKENS = 24
TEXTS = (
    "The capital of France is", "Once upon a time there was a", "The three primary colours are", "Water boils at",
    "In computer science, a list is", "The theory of evolution was", "My favourite recipe begins with", "To fix a flat tyre,",
)  # fmt: skip


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = start(tmp_path_factory.mktemp("vllm"), "--codec", "int4", "--link-gbit", "0.05")
    yield served
    end(served)


def test_agreement_is_reported_and_nothing_is_recomputed(quarter: Served) -> None:
    from transformers import AutoTokenizer

    from thunderserve.engine.checkpoint.locate import locate

    words = AutoTokenizer.from_pretrained(locate("smollm2-135m"))
    prompts = [list(words(f"{text} {number}. {text}")["input_ids"]) for text in TEXTS for number in range(6)]
    expected = [alone(quarter, one, TOKENS) for one in prompts]
    before = quarter.figures(1)
    found = [
        list(words(quarter.complete(one, TOKENS)["choices"][0]["text"], add_special_tokens=False)["input_ids"])
        for one in prompts
    ]
    handed_over(quarter, before, prompts)
    agree = [
        next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
        for mine, theirs in zip(found, expected, strict=True)
    ]
    whole = sum(one == TOKENS for one in agree)
    print(
        f"\nint4 against a single vLLM: {whole} of {len(prompts)} answers of {TOKENS} tokens equal; "
        f"{sum(agree) / len(agree):.1f} tokens until they part"
    )
    assert sum(one >= 1 for one in agree) > len(prompts) // 2  # a model that is fed noise agrees on nothing


def test_a_connection_that_breaks_in_mid_transfer_ends_in_an_answer(quarter: Served) -> None:
    """A second and more of keys and values are on their way when every connection between the instances is cut, again and again.

    The transfer resumes over a new one, or the decode instance computes the prompt: nothing hangs, and an answer comes.
    """
    long = [token for seed in range(6) for token in prompt(300 + seed)][:900]
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(quarter.complete(long, 8)["choices"][0]["text"]))
    asking.start()
    cut = 0
    until_s = time.monotonic() + 60
    while asking.is_alive() and time.monotonic() < until_s:
        cut += _cut_connections(quarter)
        time.sleep(0.4)
    asking.join(60)
    print(f"\n{cut} connections were cut")
    assert cut > 0
    assert found
    assert found[0]


def _cut_connections(served: Served) -> int:
    """Shut transfers down from outside, by the kernel (``ss -K``; Linux with INET_DIAG_DESTROY, as root)."""
    import shutil
    import subprocess

    ports = {
        one.laddr.port
        for process in psutil.Process(served.pid(1)).children(recursive=True)
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    if shutil.which("ss") is None:
        pytest.skip("ss (iproute2) is not installed")
    cut = 0
    for port in ports:
        done = subprocess.run(
            ["ss", "-K", "state", "established", "sport", "=", f":{port}"], capture_output=True, check=False
        )
        cut += max(0, done.stdout.decode().count("\n") - 1)
    return cut
