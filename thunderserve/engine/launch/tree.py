"""The process tree of one foreign server: it ends with whoever started it, and whole."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from thunderserve.engine.process import end_with_parent

log = logging.getLogger(__name__)
TERMINATE_S = 3.0
"""How long the tree may take to end by itself; then it is killed."""


class Tree:
    """A command and everything that it starts.

    Args:
        command: with its interpreter.
        variables: beside those of this process.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._command, self._variables = tuple(command), dict(variables)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises OSError when there is no such command. What it prints goes where this process prints."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            env=os.environ | self._variables,
            start_new_session=True,  # a group of its own, which can be ended as a whole
            preexec_fn=end_with_parent,
        )

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._running.pid

    @property
    def code(self) -> int | None:
        """Exit code of its first process; none while it runs."""
        return self._running.returncode

    async def ended(self) -> int:
        """Wait for its end, then end what it has left behind."""
        code = await self._running.wait()
        self._signal(signal.SIGKILL)
        return code

    async def stop(self) -> None:
        """Ask it to end, then insist."""
        process = self._process
        if process is None:
            return
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), TERMINATE_S)
        self._signal(signal.SIGKILL)
        await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the command was not started")
        return self._process
