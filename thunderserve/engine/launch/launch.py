"""All workers of a plan as processes of this machine, and the coordinator that they talk to."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from thunderserve.engine.coordinator.coordinator import Coordinator
from thunderserve.engine.coordinator.settings import Settings
from thunderserve.engine.launch.plan import Wishes, check, flows_of, options_of, role_of, way_of
from thunderserve.engine.launch.process import MODULE, Told, WorkerProcess
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.plan import Plan

log = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before a dead worker is started again: twice as long each time, until one has lived for the longest pause."""

Staff = Callable[[tuple[str, int], Sequence[int]], Sequence[Told]]


class LaunchError(RuntimeError):
    """A worker did not come up: the message has the end of its log."""


class Launch:
    """Workers and their coordinator. After ``start``, ``coordinator`` serves; after ``stop``, nothing is left.

    Args:
        plan: to be served.
        model: folder of the checkpoint, or a name of a hub.
        folder: of the workers' logs; it is made.
        name: of the model, as clients give it.
        cluster: of the plan, for the links between its nodes.
        wishes: what the plan does not say.
        settings: how patient the coordinator is.
        restart: start a worker again that has died.
        module: what a worker process runs.
        staff: what each process is told, from the coordinator's address and the cores of this machine; our own workers
            unless given.

    Raises:
        SpecError: the engine cannot serve such a plan.
    """

    def __init__(
        self,
        plan: Plan,
        model: str,
        folder: Path,
        *,
        name: str = "",
        cluster: Cluster | None = None,
        wishes: Wishes | None = None,
        settings: Settings | None = None,
        restart: bool = False,
        module: str = MODULE,
        staff: Staff | None = None,
    ) -> None:
        if staff is None:
            check(plan, model)
        self._folder = folder
        self._wishes = wishes or Wishes()
        self._staff: Staff = staff or partial(options_of, plan, model, self._wishes)
        self._restart, self._module = restart, module
        given = self._wishes.way
        self.coordinator = Coordinator(
            name or Path(model).name,
            [role_of(replica) for replica in plan.replicas],
            flows_of(plan, self._wishes.codec),
            router=plan.router,
            way=lambda source, target: way_of(plan, cluster, source, target) if given is None else given,
            settings=settings,
        )
        self.processes: tuple[WorkerProcess, ...] = ()
        self._watches: list[asyncio.Task[None]] = []

    async def start(self, *, timeout_s: float = 300.0, seen: Callable[[int, int], None] = lambda *_: None) -> None:
        """Start all workers at once, and wait until all are ready.

        Args:
            timeout_s: for all of them.
            seen: called with (ready, all) whenever one more is ready.

        Raises:
            LaunchError: one ended, or they took too long. Nothing is left running.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        address = await self.coordinator.open()
        cores = sorted(os.sched_getaffinity(0))
        self.processes = tuple(WorkerProcess(one, self._folder, self._module) for one in self._staff(address, cores))
        try:
            for process in self.processes:
                process.log_file.unlink(missing_ok=True)
            await asyncio.gather(*(process.start() for process in self.processes))
            await self._all_ready(timeout_s, seen)
        except BaseException:
            await self.stop()
            raise
        self._watches = [asyncio.create_task(self._watch(process)) for process in self.processes]

    async def stop(self) -> None:
        """End everything: say stop, wait, terminate, kill. Only processes that were started here."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.coordinator.close()
        await asyncio.gather(*(process.stop() for process in self.processes))

    async def _all_ready(self, timeout_s: float, seen: Callable[[int, int], None]) -> None:
        deadline_s, ready = time.monotonic() + timeout_s, -1
        while ready < len(self.processes):
            self._nobody_ended()
            if time.monotonic() > deadline_s:
                raise LaunchError(self._late(timeout_s))
            if len(self.coordinator.peers) != ready:
                ready = len(self.coordinator.peers)
                seen(ready, len(self.processes))
            await asyncio.sleep(0.02)

    def _nobody_ended(self) -> None:
        for process in self.processes:
            if process.code is not None:
                words = f"worker {process.options.replica} ended with {process.code} before it was ready"
                raise LaunchError(f"{words}; the end of {process.log_file}:\n{process.tail()}")

    def _late(self, timeout_s: float) -> str:
        ready = {peer.replica for peer in self.coordinator.peers}
        late = next(process for process in self.processes if process.options.replica not in ready)
        words = f"worker {late.options.replica} is not ready after {timeout_s:g} s"
        return f"{words}; the end of {late.log_file}:\n{late.tail() or '(nothing)'}"

    async def _watch(self, process: WorkerProcess) -> None:
        """Tell of a worker's end, and start it again if that is wanted."""
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = time.monotonic()
            code = await process.ended()
            log.warning("worker %d (pid %d) ended with %d", process.options.replica, process.pid, code)
            if not self._restart:
                return
            if time.monotonic() - began_s > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with suppress(OSError):  # no process can be made now: after the next pause, perhaps
                await process.start()
