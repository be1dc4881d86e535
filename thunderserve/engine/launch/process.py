"""One worker process, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)
MODULE = "thunderserve.engine.worker"
TAIL_LINES = 15
STOP_S, TERMINATE_S = 5.0, 3.0
"""How long it may take to end by itself, and after SIGTERM; then it is killed."""


class Told(Protocol):
    """What a process is told when it is started."""

    @property
    def replica(self) -> int:
        """Its number in the plan."""

    def to_json(self) -> str:
        """All of it, as the one argument of the process."""


class WorkerProcess:
    """``python -m thunderserve.engine.worker``, with all that it prints in a file.

    Args:
        options: what it is to be.
        folder: of its log, which is continued when it is started again.
        module: what is run.
    """

    def __init__(self, options: Told, folder: Path, module: str = MODULE) -> None:
        self.options, self._module = options, module
        self.log_file = folder / f"worker-{options.replica}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises OSError when no process can be made."""
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module, self.options.to_json(),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the terminal is for the launcher, which ends workers in order
            )  # fmt: skip

    async def ended(self) -> int:
        """Wait for its end: the exit code, negative for a signal."""
        return await self._running.wait()

    async def stop(self) -> None:
        """It was told to end, or its coordinator has gone: wait, then insist."""
        process = self._process
        if process is None:
            return
        for patience_s, insist in ((STOP_S, process.terminate), (TERMINATE_S, process.kill)):
            try:
                await asyncio.wait_for(process.wait(), patience_s)
                return
            except TimeoutError:
                log.warning("worker %d (pid %d) does not end", self.options.replica, process.pid)
                with suppress(ProcessLookupError):
                    insist()
        await process.wait()

    def tail(self) -> str:
        """The last lines that it printed."""
        with self.log_file.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, TAIL_LINES)).strip()

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        return self._running.pid

    @property
    def code(self) -> int | None:
        """Exit code; none while it runs."""
        return self._running.returncode

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"worker {self.options.replica} was not started")
        return self._process
