"""The ``openai`` backend: any OpenAI-compatible server as a system under test, found at a URL or started by a command.

What it does is measured as it is, by the same load generator and on the same schedule; the plan of the cell says only what
is rented and compared with. vLLM, SGLang, TGI, llama.cpp and TensorRT-LLM have such servers.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from harness.load.asks import asks_of, warm_ups
from harness.load.drive import drive
from harness.load.records import records_of, summary_of
from harness.load.server import served
from thunderserve.backend import Deployment
from thunderserve.cost.source import CostSource
from thunderserve.engine.checkpoint.locate import locate
from thunderserve.engine.launch.tree import Tree
from thunderserve.engine.vllm.launch import free_ports
from thunderserve.serving.records import Served
from thunderserve.spec.errors import SpecError
from thunderserve.spec.trace import Trace

HOST = "127.0.0.1"
LOOK_S = 0.5


class ServerError(RuntimeError):
    """The server did not come up, or served nothing."""


@dataclass
class Server:
    """A ``Backend`` that asks over HTTP.

    Args:
        costs: not used: here, steps take what they take.
        url: of a server that runs already, without ``/v1``.
        command: that starts one, in its place; ``{port}``, ``{host}``, ``{name}`` (of the model) and ``{model}`` (its folder) are
            filled in. It is ended after the cell.
        model: as the server calls it; by default the one it has.
        warm_up: requests before the first that counts.
        timeout_s: for one request.
        ready_s: how long a command may take to answer.
        seed: of the prompts' tokens.
    """

    costs: CostSource | None = None
    name: str = "openai"
    url: str = ""
    command: str = ""
    model: str = ""
    warm_up: int = 4
    timeout_s: float = 600.0
    ready_s: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.command):
            raise SpecError(
                "wants one of url and command", value=self.url or None,
                remedy="{name: openai, url: http://127.0.0.1:8000}, or {name: openai, command: 'server --port {port}'}",
            )  # fmt: skip

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:  # noqa: ARG002
        """See ``Backend``. Series are not recorded, and what happens inside the server is not known.

        Raises:
            SpecError: there is no such server, or model.
            ServerError: the command ended, or did not answer in time; or no request was answered.
        """
        return asyncio.run(self._serve(deployment, trace))

    async def _serve(self, deployment: Deployment, trace: Trace) -> Served:
        async with self._running(deployment) as url:
            model = await served(url, self.model or None)
            vocabulary = model.vocabulary or deployment.model.vocab_size
            result = await drive(
                url, model.name, asks_of(trace, self.seed, vocabulary=vocabulary), timeout_s=self.timeout_s,
                warm_up=warm_ups(self.warm_up, self.seed, vocabulary=vocabulary),
            )  # fmt: skip
        seen, records = summary_of(result), records_of(result)
        if not seen.finished:
            why = seen.errors[0][0] if seen.errors else "no answer"
            raise ServerError(f"{url} answered none of {len(trace)} requests: {why}")
        counters = {
            "dispatch_slip_p99_s": seen.slip_p99_s, "dispatch_slip_max_s": seen.slip_max_s,
            "unfinished": float(len(trace) - seen.finished), "answers_of_another_length": float(seen.other_length),
        }  # fmt: skip
        return Served(records, (), counters)

    @asynccontextmanager
    async def _running(self, deployment: Deployment) -> AsyncIterator[str]:
        if self.url:
            yield self.url
            return
        host, port = HOST, free_ports(1)[0]
        tree = Tree(self._words(host, port, deployment.model.name), {})
        try:
            await tree.start()
        except OSError as error:
            raise ServerError(f"the command cannot be started: {error}") from error
        try:
            url = f"http://{host}:{port}"
            await self._until_ready(tree, url)
            yield url
        finally:
            await tree.stop()

    def _words(self, host: str, port: int, model: str) -> list[str]:
        """The command with its blanks filled in."""
        blanks = {"host": host, "port": port, "name": model}
        if "{model}" in self.command:
            blanks["model"] = locate(model)
        try:
            return shlex.split(self.command.format(**blanks))
        except (KeyError, IndexError, ValueError) as error:
            raise SpecError(
                f"cannot be filled in: {error}", key="command", value=self.command,
                remedy="its blanks are {host}, {port}, {name} and {model}; double other braces",
            ) from None  # fmt: skip

    async def _until_ready(self, tree: Tree, url: str) -> None:
        until_s = time.monotonic() + self.ready_s
        while True:
            if tree.code is not None:
                raise ServerError(f"the command ended with {tree.code} before it answered: {self.command}")
            try:
                await served(url, self.model or None)
                return
            except SpecError as error:
                if time.monotonic() > until_s:
                    raise ServerError(f"not ready within {self.ready_s:g} s: {error}") from None
            await asyncio.sleep(LOOK_S)
