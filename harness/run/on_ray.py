"""Workers on a Ray cluster: for sweeps that one machine is too small for.

The results folder must lie where every node sees it under the same path, and every node needs this package installed at
the same commit: results go to disk, only tasks and outcomes travel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.run.executor import Outcome, attempt
from harness.run.local import ONE_THREAD, TICK_S
from harness.run.tasks import Task
from harness.run.world import World
from harness.store.layout import Store
from harness.sweep.resolve import Resolved
from thunderserve.spec.errors import SpecError


class Worker:
    """One actor: a process that keeps its world warm from task to task."""

    def __init__(self, resolved: Resolved, folder: Path) -> None:
        self._world, self._store = World(resolved), Store(folder)

    def run(self, task: Task) -> tuple[float, str, str]:
        """(wall seconds, error, traceback) of a task, as an ``Outcome`` has them."""
        outcome = attempt(task, self._world, self._store)
        return outcome.wall_s, outcome.error, outcome.traceback


class OnRay:
    """An executor with one single-threaded actor for each CPU of a Ray cluster, or ``limit`` of them.

    ``address`` is Ray's: ``auto`` joins the running cluster, ``local`` starts one on this machine. Raises SpecError when
    Ray is not installed or there is no cluster at the address.
    """

    def __init__(self, resolved: Resolved, store: Store, address: str, limit: int | None = None) -> None:
        self._ray = _connected(address)
        self._resolved, self._store = resolved, Store(store.folder.resolve())
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self._limit = min(limit or cpus, cpus)
        self._waiting: deque[Task] = deque()
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task]] = {}

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return self._limit

    @property
    def running(self) -> Sequence[Task]:
        """What the actors have in hand."""
        return tuple(task for _, task in self._busy.values())

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue ``tasks``."""
        self._waiting.extend(tasks)

    def outcomes(self) -> Iterator[Outcome | None]:
        """Hand out what is queued and yield what comes back, until nothing is left."""
        while self._waiting or self._busy:
            while self._waiting and len(self._busy) < self._limit:
                actor, task = self._idle.pop() if self._idle else self._start(), self._waiting.popleft()
                self._busy[actor.run.remote(task)] = (actor, task)
            ready, _ = self._ray.wait(list(self._busy), timeout=TICK_S)
            if not ready:
                yield None
            for reference in ready:
                yield self._receive(reference)

    def close(self) -> None:
        """Kill the actors and leave the cluster; drafts are swept up by the next run."""
        self._waiting.clear()
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            self._ray.kill(actor)
        self._idle.clear()
        self._busy.clear()
        self._ray.shutdown()

    def _start(self) -> Any:
        kind = self._ray.remote(num_cpus=1, runtime_env={"env_vars": ONE_THREAD})(Worker)
        return kind.remote(self._resolved, self._store.folder)

    def _receive(self, reference: Any) -> Outcome:
        actor, task = self._busy.pop(reference)
        try:
            wall_s, error, trace = self._ray.get(reference)
        except self._ray.exceptions.RayError as failure:
            words = f"the worker was lost ({type(failure).__name__})"
            return Outcome(task, 0.0, words, str(failure))
        self._idle.append(actor)
        return Outcome(task, wall_s, error, trace)


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise SpecError("Ray is not installed", key="--ray", remedy="pip install 'thunderserve[ray]'") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        words = f"no Ray cluster answers at {address!r}: {str(error).splitlines()[0]}"
        raise SpecError(words, key="--ray", remedy="start one with 'ray start --head', or say --ray local") from None
    return ray
