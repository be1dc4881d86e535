"""Prefill in one vLLM, decode in another, our connector between them and our coordinator in front."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
import urllib.error
from typing import Any

import psutil
import pytest
from served import Served, ask

from thunderserve.engine.vllm import figures

PROMPTS, TOKENS = 50, 24


def prompt(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(100, 40000) for _ in range(rng.randrange(20, 300))]


def alone(served: Served, tokens: list[int], count: int) -> list[int]:
    """What a single vLLM says, without any connector at work."""
    body = {"model": "smollm2-135m", "prompt": tokens, "max_tokens": count, "temperature": 0, "ignore_eos": True}
    found = ask(served.instances[0], "/v1/completions", body | {"return_token_ids": True})
    return list(found["choices"][0]["token_ids"])


def grown(served: Served, before: dict[str, float], name: str) -> int:
    return int(served.figures(1)[name] - before.get(name, 0.0))


def handed_over(served: Served, before: dict[str, float], prompts: list[list[int]]) -> None:
    """By vLLM's own counters the decode side computed no token of any prompt: only the first of each answer."""
    until_s = time.monotonic() + 10  # vLLM counts after it has answered
    while grown(served, before, figures.EXTERNAL) < sum(map(len, prompts)) and time.monotonic() < until_s:
        time.sleep(0.2)
    assert grown(served, before, figures.EXTERNAL) == sum(map(len, prompts))
    assert grown(served, before, figures.COMPUTED) == len(prompts)


def answer(served: Served, tokens: list[int], count: int, **more: Any) -> str:
    return str(served.complete(tokens, count, **more)["choices"][0]["text"])


def test_greedy_answers_equal_those_of_a_single_vllm(split: Served) -> None:
    from transformers import AutoTokenizer

    from thunderserve.engine.checkpoint.locate import locate

    words = AutoTokenizer.from_pretrained(locate("smollm2-135m"))
    prompts = [prompt(seed) for seed in range(PROMPTS)]
    expected = [words.decode(alone(split, one, TOKENS)) for one in prompts]
    before = split.figures(1)
    assert [answer(split, one, TOKENS) for one in prompts] == expected
    handed_over(split, before, prompts)


def test_many_at_once_and_a_stream(split: Served) -> None:
    prompts = [prompt(1000 + seed) for seed in range(12)]
    one_by_one = [answer(split, one, TOKENS) for one in prompts]
    before, found = split.figures(1), {}

    def serve(number: int) -> None:
        found[number] = answer(split, prompts[number], TOKENS)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handed_over(split, before, prompts)
    same = sum(found[number] == text for number, text in enumerate(one_by_one))
    assert same >= len(prompts) - 1  # sums of a larger batch may decide a near-tie otherwise
    texts = list(streamed(split, prompts[0]))
    assert "".join(texts) == one_by_one[0]
    assert len(texts) >= TOKENS // 2


def streamed(served: Served, tokens: list[int], count: int = TOKENS) -> Any:
    """The pieces of an answer as they come."""
    host = served.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=400)
    body = {"prompt": tokens, "max_tokens": count, "temperature": 0, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            assert "error" not in event, event
            yield event["choices"][0]["text"]
    connection.close()


def test_a_client_that_leaves_is_forgotten_by_both_instances(split: Served) -> None:
    pieces = streamed(split, prompt(7), 400)
    next(pieces)
    pieces.close()
    split.quiet()


def steady(seed: int) -> list[int]:
    """Of few lengths: for every new number of rows the matrix library keeps what it has prepared, with any connector or none."""
    rng = random.Random(seed)
    return [rng.randrange(100, 40000) for _ in range(64 * rng.randrange(1, 5))]


def test_five_hundred_requests_leave_memory_as_it_was(split: Served) -> None:
    def serve(first: int, count: int) -> None:
        """Four at a time."""
        threads = [
            threading.Thread(target=lambda part=part: [answer(split, steady(5000 + seed), 2) for seed in part])
            for part in (range(first + lane, first + count, 4) for lane in range(4))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def resident() -> list[float]:
        trees = [psutil.Process(split.pid(one)) for one in (0, 1)]
        return [
            sum(part.memory_info().rss for part in (tree, *tree.children(recursive=True))) / 2**20 for tree in trees
        ]

    before = split.figures(1)
    serve(0, 200)
    warm = resident()
    serve(200, 300)
    after = resident()
    print(f"\nMiB after 200 and after 500 requests: {warm} {after}")
    handed_over(split, before, [steady(5000 + seed) for seed in range(500)])
    assert all(b - a < 60 for a, b in zip(warm, after, strict=True))
    split.quiet()


@pytest.mark.parametrize("victim", [1, 0], ids=["decode", "prefill"])
def test_an_instance_that_is_killed_in_mid_stream_is_survived(split: Served, victim: int) -> None:
    """The answer pauses until the instance is back, and ends as it would have (keys and values are raw)."""
    expected = answer(split, prompt(9), 40)
    killed, text = False, ""
    for number, piece in enumerate(streamed(split, prompt(9), 40)):
        text += piece
        if number == 5:
            os.kill(split.pid(victim), signal.SIGKILL)
            killed = True
    assert killed
    assert text == expected
    until_s = time.monotonic() + 300
    while split.health()["status"] != "ok" and time.monotonic() < until_s:
        time.sleep(1)
    assert split.health()["status"] == "ok"
    try:
        assert answer(split, prompt(9), 40) == expected
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read()) from error
