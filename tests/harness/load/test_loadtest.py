"""The command against our own front with a real model behind it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("prometheus_client")

sys.path.insert(0, str(Path(__file__).parents[2] / "engine" / "front"))

import torch
import typer
from aiohttp.test_utils import TestServer
from plain_engine import PlainEngine
from typer.testing import CliRunner

from harness.cli.exits import Exit
from harness.cli.loadtest import loadtest
from harness.store import columns
from thunderserve.engine.checkpoint.tiny import tiny
from thunderserve.engine.front.app import build
from thunderserve.spec.errors import SpecError

LENGTHS = ["--workload", "azure-conv", "--scale-lengths", "0.02", "--max-prompt", "60", "--max-output", "12"]
QUICK = [*LENGTHS, "--rate", "40", "--requests", "12", "--warm-up", "1"]


class Front:
    """The front in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.engine = PlainEngine(folder)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._server = TestServer(build(self.engine, self.engine.tokenizer))
        asyncio.run_coroutine_threadsafe(self._server.start_server(), self.loop).result(10)
        self.url = str(self._server.make_url("/"))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    torch.set_num_threads(1)
    found = Front(tiny(tmp_path_factory.mktemp("tiny")))
    yield found
    found.close()


def called(*arguments: str) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(loadtest)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_request_is_served_and_its_record_written(front: Front, tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    result = called(front.url, *QUICK, "--slo", "ttft=5s,e2e=20s", "--json", "-o", str(path))
    assert result.exit_code == Exit.OK, result.output
    found = json.loads(result.stdout)
    assert found["load"]["sent"] == found["load"]["finished"] == 12
    assert found["load"]["other_length"] == 0
    assert found["errors"] == {}
    assert found["metrics"]["unfinished_requests"] == 0
    assert 0 < found["metrics"]["ttft_p50_s"] < found["metrics"]["e2e_p50_s"]
    table = columns.read(path)
    assert table["status"].tolist() == [0] * 12
    assert max(table["prompt_tokens"]) <= 60
    assert found["metrics"]["slo_attainment"] == pytest.approx(
        (((table["first_token_s"] - table["arrival_s"]) <= 5) & ((table["finish_s"] - table["arrival_s"]) <= 20)).mean()
    )
    asked = sum(table["output_tokens"].tolist())
    assert asked == sum(front.engine.generated[-12:])  # the server generated what the records say


def test_texts_are_answered_too_and_the_table_is_for_people(front: Front) -> None:
    result = called(front.url + "v1/", *QUICK, "--text", "--max-prompt", "20", "--max-output", "4")
    assert result.exit_code == Exit.OK, result.output
    for words in ("tiny-llama at http", "ttft_p50_s", "slip p50, p99, most", "12, 12"):
        assert words in result.stdout
    assert "slo_attainment" not in result.stdout
    assert "/12 sent" in result.stderr


def test_lost_workers_are_told_and_the_exit_code_says_so(front: Front) -> None:
    front.engine.unavailable_at = 2
    try:
        result = called(front.url, *QUICK, "--warm-up", "0", "--quiet")
    finally:
        front.engine.unavailable_at = None
    assert result.exit_code == Exit.FAILED_CELLS
    assert "requests: all workers are gone" in result.stderr


def test_an_interrupt_writes_what_there_is_and_says_so(front: Front, tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"

    def interrupt() -> None:
        until_s = time.monotonic() + 10
        while not front.engine.running and time.monotonic() < until_s:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    front.engine.token_s = 30.0
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        result = called(front.url, *QUICK, "--warm-up", "0", "--quiet", "-o", str(path))
    finally:
        front.engine.token_s = 0.0
        thread.join()
    assert result.exit_code == Exit.INTERRUPTED
    assert {str(error) for error in columns.read(path)["error"]} <= {"interrupted", "not sent: the run was interrupted"}
    until_s = time.monotonic() + 5
    while front.engine.running and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not front.engine.running


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model", "other"], "no such model"),
        (["--max-output", "600", "--scale-lengths", "100"], "context of tiny-llama is 512"),
        (["--slo", "scale=5"], "not absolute"),
        (["--slo", "ttft"], "key=value"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(front: Front, more: list[str], words: str) -> None:
    before = len(front.engine.generated)
    with pytest.raises(SpecError, match=words):
        called(front.url, *QUICK, *more)
    assert len(front.engine.generated) == before


def test_a_rate_and_a_server_are_needed(front: Front) -> None:
    with pytest.raises(SpecError, match="--rate"):
        called(front.url, *LENGTHS)
    with pytest.raises(SpecError, match="--rate"):
        called(front.url, *LENGTHS, "--rate", "0")
    with pytest.raises(SpecError, match="no OpenAI-compatible server answers"):
        called("http://127.0.0.1:9", *QUICK)
