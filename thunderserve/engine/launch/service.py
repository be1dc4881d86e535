"""Everything together: workers, coordinator, and the HTTP front."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from thunderserve.engine.checkpoint.ends import end_tokens
from thunderserve.engine.front.app import build
from thunderserve.engine.launch.launch import Launch
from thunderserve.spec.errors import SpecError

CLOSE_S = 2.0
"""Connections of clients that are still open at the end get so long; their answers have been ended by then."""


class Service:
    """Serves until ``stop``.

    Args:
        launch: not started yet.
        model: where its tokenizer is: a folder, or a name of a hub.
    """

    def __init__(self, launch: Launch, model: str) -> None:
        self._launch, self._model = launch, model
        self._runner: web.AppRunner | None = None
        self.coordinator = launch.coordinator

    async def start(
        self, host: str, port: int, *, timeout_s: float = 300.0, seen: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, float]:
        """Start all, and say where clients find it and how many seconds that took. ``port`` 0: any that is free.

        Raises:
            SpecError: the address cannot be had.
            LaunchError: a worker did not come up.
        """
        began_s = time.monotonic()
        words = asyncio.get_running_loop().run_in_executor(None, load_words, self._model)  # meanwhile
        await self._launch.start(timeout_s=timeout_s, seen=seen)
        tokenizer, ends = await words
        self._runner = web.AppRunner(build(self.coordinator, tokenizer, ends), shutdown_timeout=CLOSE_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise SpecError(f"cannot listen: {error.strerror}", key="--port", value=f"{host}:{port}") from error
        return f"http://{host}:{self._runner.addresses[0][1]}", time.monotonic() - began_s

    async def stop(self) -> None:
        """End answers, workers and front, also after a start that failed."""
        await self._launch.stop()
        if self._runner is not None:
            await self._runner.cleanup()


def load_words(model: str) -> tuple[Any, tuple[int, ...] | None]:
    """The tokenizer of a checkpoint, and the tokens that end an answer. Takes seconds: transformers is imported."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model), end_tokens(model) or None
