"""The front before a real engine, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from plain_engine import PlainEngine

from thunderserve.engine.messages import Sampling

Client = TestClient[Any, Any]
GREEDY = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
CHAT_PATH, PATH = "/v1/chat/completions", "/v1/completions"


def decoded(engine: PlainEngine, tokens: list[int]) -> str:
    return str(engine.tokenizer.decode(tokens, skip_special_tokens=True))


def ids(engine: PlainEngine, text: str) -> list[int]:
    return list(engine.tokenizer.encode(text))


async def events(client: Client, path: str, body: dict[str, Any]) -> list[Any]:
    """All events of a stream; ``[DONE]`` as it is."""
    async with client.post(path, json=body | {"stream": True}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        lines = (await response.text()).split("\n\n")
    data = [line.split("data: ", 1)[1] for line in lines if line]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


async def asked(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with client.post(path, json=body) as response:
        found: dict[str, Any] = await response.json()
        assert response.status == 200, found
        return found


async def refused(client: Client, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    async with client.post(path, json=body) as response:
        assert response.status == status
        found = (await response.json())["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return dict(found)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


def test_a_completion_is_what_the_engine_generates_with_its_usage(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        prompt = ids(engine, "Hello, world")
        wanted = engine.answer(prompt, Sampling(12))
        for given in ("Hello, world", prompt):
            found = await asked(
                client, PATH, GREEDY | {"prompt": given, "model": "tiny-llama", "return_token_ids": True}
            )
            (choice,) = found["choices"]
            assert choice["token_ids"] == wanted
            assert choice["text"] == decoded(engine, wanted)
            assert choice["finish_reason"] == "length"
            tokens = {"prompt_tokens": len(prompt), "completion_tokens": 12, "total_tokens": len(prompt) + 12}
            assert found["usage"] == tokens

    play(scene)


def test_a_stream_has_an_event_a_token_and_says_the_same(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        whole = await asked(client, PATH, GREEDY | {"prompt": "abc"})
        *told, usage, done = await events(
            client, PATH, GREEDY | {"prompt": "abc", "stream_options": {"include_usage": True}}
        )
        assert done == "[DONE]"
        assert usage["choices"] == []
        assert usage["usage"] == whole["usage"]
        assert "".join(one["choices"][0]["text"] for one in told) == whole["choices"][0]["text"]
        assert [one["choices"][0]["finish_reason"] for one in told] == [None] * 11 + ["length"]
        assert {one["usage"] for one in told} == {None}
        assert len({one["id"] for one in (*told, usage)}) == 1

    play(scene)


def test_a_chat_goes_through_the_template(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]},
        ]
        prompt = ids(engine, "<system>Be brief.<user>Hi there<assistant>")
        body = GREEDY | {"messages": messages, "max_completion_tokens": 9}
        wanted = engine.answer(prompt, Sampling(9))
        found = await asked(client, CHAT_PATH, body)
        assert found["object"] == "chat.completion"
        assert found["choices"][0]["message"] == {"role": "assistant", "content": decoded(engine, wanted)}
        assert found["usage"]["prompt_tokens"] == len(prompt)
        *told, done = await events(client, CHAT_PATH, body)
        assert done == "[DONE]"
        assert [one["choices"][0]["delta"].get("role") for one in told] == ["assistant"] + [None] * 8
        assert "".join(one["choices"][0]["delta"]["content"] for one in told) == decoded(engine, wanted)

    play(scene)


def test_several_prompts_and_choices_are_told_by_their_index(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        body = {
            "prompt": ["one", "two"],
            "n": 2,
            "seed": 5,
            "temperature": 1,
            "max_tokens": 8,
            "return_token_ids": True,
        }
        found = await asked(client, PATH, body | {"ignore_eos": True})
        wanted = [
            engine.answer(ids(engine, text), Sampling(8, 1.0, seed=5 + i)) for text in ("one", "two") for i in (0, 1)
        ]
        assert [choice["token_ids"] for choice in found["choices"]] == wanted
        assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
        assert wanted[0] != wanted[1]
        *told, _ = await events(client, PATH, body | {"ignore_eos": True})
        for index in range(4):
            mine = [one["choices"][0] for one in told if one["choices"][0]["index"] == index]
            assert [token for one in mine for token in one["token_ids"]] == wanted[index]

    play(scene)


def test_a_stop_text_ends_the_answer_before_it_and_cancels_the_rest(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        text = decoded(engine, engine.answer(ids(engine, "abc"), Sampling(200)))
        stop = next(
            text[at : at + 3]
            for at in range(5, 60)
            if text.find(text[at : at + 3]) == at and "\ufffd" not in text[at : at + 3]
        )
        body = GREEDY | {"prompt": "abc", "max_tokens": 200, "stop": ["never", stop]}
        found = (await asked(client, PATH, body))["choices"][0]
        assert found["text"] == text[: text.index(stop)]
        assert found["finish_reason"] == "stop"
        *told, _ = await events(client, PATH, body)
        assert "".join(one["choices"][0]["text"] for one in told) == text[: text.index(stop)]
        assert told[-1]["choices"][0]["finish_reason"] == "stop"
        await until(lambda: not engine.running)
        assert engine.generated == [len(told)] * 2
        assert len(told) < 200

    play(scene)


def end_after(engine: PlainEngine, prompt: str, place: int) -> tuple[list[int], int]:
    """An answer and a token of it that comes first at ``place`` or later; and that place."""
    tokens = engine.answer(ids(engine, prompt), Sampling(60))
    at = next(at for at in range(place, 60) if tokens.index(tokens[at]) == at)
    return tokens, at


def test_end_tokens_end_an_answer_and_are_no_text(engine: PlainEngine, play: Any) -> None:
    tokens, at = end_after(engine, "abc", 3)
    engine.tokenizer.eos_token = engine.tokenizer.convert_ids_to_tokens(tokens[at])

    async def scene(client: Client) -> None:
        body = {"prompt": "abc", "temperature": 0, "max_tokens": 60, "return_token_ids": True}
        found = (await asked(client, PATH, body))["choices"][0]
        assert (found["finish_reason"], found["token_ids"]) == ("stop", tokens[: at + 1])
        assert found["text"] == decoded(engine, tokens[:at])
        found = (await asked(client, PATH, body | {"ignore_eos": True}))["choices"][0]
        assert (found["finish_reason"], found["token_ids"]) == ("length", tokens)
        later = next((i for i in range(at + 1, 60) if tokens[i] == tokens[at]), 59)
        found = (await asked(client, PATH, body | {"min_tokens": at + 1}))["choices"][0]
        assert found["token_ids"] == tokens[: later + 1]

    play(scene)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [1, 264]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"max_tokens": 600}, "max_tokens"),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"n": 0}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop_token_ids": ["a"]}, "stop_token_ids"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"model": 5}, "model"),
        ({"logprobs": 0}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], param: str, engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        for streamed in ({}, {"stream": True}):
            found = await refused(client, PATH, GREEDY | {"prompt": "abc"} | streamed | change)
            assert found["param"] == param
            assert param in found["message"]
            assert found["type"] == "invalid_request_error"
        assert engine.generated == []

    play(scene)


def test_conversations_that_cannot_be_read_are_refused_by_name(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        image = {"type": "image_url", "image_url": {"url": "x"}}
        for messages, param in (
            ([], "messages"),
            ("hello", "messages"),
            ([{"content": "x"}], "messages[0]"),
            ([{"role": "user"}], "messages[0].content"),
            ([{"role": "user", "content": [image]}], "messages[0].content[0]"),
        ):
            assert (await refused(client, CHAT_PATH, {"messages": messages}))["param"] == param
        engine.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        hello = {"messages": [{"role": "user", "content": "x"}]}
        assert "roles must alternate" in (await refused(client, CHAT_PATH, hello))["message"]
        engine.tokenizer.chat_template = None
        assert "/v1/completions" in (await refused(client, CHAT_PATH, hello))["message"]

    play(scene)


def test_unknown_fields_are_ignored_and_bad_bodies_and_paths_are_not(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        neutral = {"logprobs": None, "presence_penalty": 0, "user": "me", "something": [1], "best_of": 1}
        await asked(client, PATH, GREEDY | {"prompt": "abc"} | neutral)
        await refused(client, PATH, [1])
        found = await refused(client, PATH, {"prompt": "abc", "model": "other"}, 404)
        assert found["code"] == "model_not_found"
        await refused(client, "/v1/embeddings", {}, 404)
        await refused(client, "/health", {}, 405)
        async with client.post(PATH, data=b"{") as response:
            assert response.status == 400
            assert "JSON" in (await response.json())["error"]["message"]

    play(scene)


def test_a_prompt_longer_than_the_context_is_refused_and_a_chat_fills_what_is_left(
    engine: PlainEngine, play: Any
) -> None:
    engine.max_context = 40

    async def scene(client: Client) -> None:
        assert (await refused(client, PATH, {"prompt": "x" * 40}))["code"] == "context_length_exceeded"
        found = await asked(client, CHAT_PATH, {"messages": [{"role": "user", "content": "Hi"}], "ignore_eos": True})
        assert found["usage"]["total_tokens"] == 40
        engine.too_long = True
        assert (await refused(client, PATH, {"prompt": "x", "stream": True}))["code"] == "context_length_exceeded"

    play(scene)


def test_long_texts_are_tokenised_beside_the_event_loop_and_come_out_the_same(engine: PlainEngine, play: Any) -> None:
    engine.max_context = 1 << 20

    async def scene(client: Client) -> None:
        texts = ["long " * 1500, "é" * 4100]
        bodies = [{"prompt": text, "max_tokens": 600_000} for text in texts]
        engine.unavailable_at = 0
        answers = await asyncio.gather(*(refused(client, PATH, body, 503) for body in bodies for _ in range(4)))
        assert len(answers) == 8
        engine.max_context = 10
        for text, body in zip(texts, bodies, strict=True):
            message = (await refused(client, PATH, body))["message"]
            assert f"{len(text.encode())} of prompt" in message

    play(scene)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_what_it_asked_for(stream: bool, engine: PlainEngine, play: Any) -> None:
    engine.token_s = 0.02

    async def scene(client: Client) -> None:
        body = json.dumps(GREEDY | {"prompt": ["abc", "d"], "max_tokens": 400, "stream": stream}).encode()
        reader, writer = await asyncio.open_connection(client.host, client.port)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await until(lambda: len(engine.running) == 2)
        if stream:
            assert (await reader.read(10)).startswith(b"HTTP/1.1")
        writer.transport.abort()
        await until(lambda: not engine.running)
        assert len(engine.generated) == 2
        assert max(engine.generated) < 100
        left = 'thunderserve_front_requests_total{path="/v1/completions",status="499"} 1.0'
        async with asyncio.timeout(5):
            while left not in (page := await (await client.get("/metrics")).text()):
                await asyncio.sleep(0.01)
        assert "thunderserve_front_in_flight 1.0" in page  # this very request

    play(scene)


def test_a_client_that_leaves_before_the_first_token_cancels_too(engine: PlainEngine, play: Any) -> None:
    engine.token_s = 60

    async def scene(client: Client) -> None:
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.3):
                await events(client, PATH, GREEDY | {"prompt": "abc"})
        await until(lambda: not engine.running)
        assert engine.generated == [0]

    play(scene)


def test_without_workers_it_says_503_and_when_to_come_again(engine: PlainEngine, play: Any) -> None:
    engine.unavailable_at = 0

    async def scene(client: Client) -> None:
        for stream in (False, True):
            async with client.post(PATH, json=GREEDY | {"prompt": "abc", "stream": stream}) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) >= 1
                assert "all workers are gone" in (await response.json())["error"]["message"]

    play(scene)


def test_workers_lost_in_the_middle_of_a_stream_end_it_with_an_error(engine: PlainEngine, play: Any) -> None:
    engine.unavailable_at = 4

    async def scene(client: Client) -> None:
        *told, error = await events(client, PATH, GREEDY | {"prompt": "abc"})
        assert len(told) == 4
        assert error["error"]["message"] == "all workers are gone"
        await refused(client, PATH, GREEDY | {"prompt": "abc"}, 503)
        several = await events(client, PATH, GREEDY | {"prompt": ["abc", "d"]})
        assert "error" in several[-1]
        assert not engine.running

    play(scene)


def test_a_fault_of_the_engine_is_a_500_in_words_and_its_cause_is_in_the_log(
    engine: PlainEngine, play: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> int:
        raise FloatingPointError("the logits are not finite")

    monkeypatch.setattr(engine, "_next", broken)

    async def scene(client: Client) -> None:
        for stream in (True, False):
            found = await refused(client, PATH, GREEDY | {"prompt": "abc", "stream": stream}, 500)
            assert "logits" not in found["message"]
            assert found["type"] == "server_error"

    play(scene)
    assert "the logits are not finite" in caplog.text


def test_models_and_health(engine: PlainEngine, play: Any) -> None:
    async def scene(client: Client) -> None:
        async with client.get("/v1/models") as response:
            (model,) = (await response.json())["data"]
        assert (model["id"], model["max_model_len"], model["vocab_size"]) == ("tiny-llama", 512, 264)
        for status, code in (("ok", 200), ("degraded", 200), ("down", 503)):
            engine.status = status
            async with client.get("/health") as response:
                assert response.status == code
                assert (await response.json())["status"] == status

    play(scene)


def test_metrics_are_read_by_prometheus_own_parser_and_add_up(engine: PlainEngine, play: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    async def scene(client: Client) -> None:
        for _ in range(3):
            await asked(client, PATH, GREEDY | {"prompt": "abc"})
        await refused(client, PATH, {})
        async with client.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            page = await response.text()
        families = list(text_string_to_metric_families(page))
        found = {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}
        front = "thunderserve_front_"
        assert found[front + "requests_total", (PATH, "200")] == 3
        assert found[front + "requests_total", (PATH, "400")] == 1
        assert found[front + "output_tokens_total", ()] == 36
        assert found[front + "prompt_tokens_total", ()] == 9
        assert [found[f"{front}{name}_seconds_count", ()] for name in ("ttft", "tpot", "e2e")] == [3, 3, 3]
        ttft, tpot, e2e = (found[f"{front}{name}_seconds_sum", ()] for name in ("ttft", "tpot", "e2e"))
        assert ttft + 11 * tpot == pytest.approx(e2e)
        assert found["worker_waiting", ("1",)] == 4
        assert found["worker_steps_total", ("0",)] == 7

    play(scene)


def test_openai_own_client_reads_answers_streams_and_errors(engine: PlainEngine, play: Any) -> None:
    openai = pytest.importorskip("openai", reason="the openai client is not installed")

    async def scene(client: Client) -> None:
        us = openai.AsyncOpenAI(base_url=str(client.make_url("/v1")), api_key="none", max_retries=0)
        whole = await us.completions.create(model="tiny-llama", prompt="abc", max_tokens=8, temperature=0)
        stream = await us.completions.create(model="tiny-llama", prompt="abc", max_tokens=8, temperature=0, stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text
        with pytest.raises(openai.BadRequestError, match="top_p"):
            await us.completions.create(model="tiny-llama", prompt="abc", top_p=7)

    play(scene)
