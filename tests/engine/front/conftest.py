from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("aiohttp")
pytest.importorskip("prometheus_client")

sys.path.insert(0, str(Path(__file__).parent))  # the plain engine is a module beside the tests

from aiohttp.test_utils import TestClient, TestServer  # noqa: E402
from plain_engine import PlainEngine  # noqa: E402

from thunderserve.engine.checkpoint.tiny import tiny  # noqa: E402
from thunderserve.engine.front.app import build  # noqa: E402


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(folder: Path) -> PlainEngine:
    torch.set_num_threads(1)
    return PlainEngine(folder)


Scene = Callable[[TestClient[Any, Any]], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture
def play(engine: PlainEngine) -> Play:
    """Runs a scene with a client of the front."""

    def run(scene: Scene) -> None:
        async def main() -> None:
            async with TestClient(TestServer(build(engine, engine.tokenizer))) as client:
                await scene(client)

        asyncio.run(asyncio.wait_for(main(), 20))

    return run
