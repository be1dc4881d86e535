"""Who runs the tasks: the contract, and the executor that runs them in this process."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.run.tasks import Task
from harness.run.world import World
from harness.store.layout import Store


@dataclass(frozen=True)
class Outcome:
    """How a task ended. Its result is on disk; this only says that it is there, or why not."""

    task: Task
    wall_s: float
    error: str = ""
    """One line; empty when all went well."""
    traceback: str = ""


class Executor(Protocol):
    """Runs tasks somewhere, in any order. More may be submitted while outcomes are read."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""

    @property
    def running(self) -> Sequence[Task]:
        """What is being worked on."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand over tasks; those submitted first start first."""

    def outcomes(self) -> Iterator[Outcome | None]:
        """One outcome a task, as they end; None now and then, so that the caller can show that time passes."""

    def close(self) -> None:
        """Stop at once, and free what is held. Tasks in flight are lost, and nothing on disk is harmed."""


def attempt(task: Task, world: World, store: Store) -> Outcome:
    """Run a task; a failure is an outcome, with its traceback."""
    start = time.perf_counter()
    try:
        task.run(world, store)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome(task, time.perf_counter() - start, words, traceback.format_exc())
    return Outcome(task, time.perf_counter() - start)


class Inline:
    """Runs tasks one after the other in this process."""

    workers = 1

    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store = world, store
        self._waiting: deque[Task] = deque()
        self._current: list[Task] = []

    @property
    def running(self) -> Sequence[Task]:
        """The task at hand, if any."""
        return tuple(self._current)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue ``tasks``."""
        self._waiting.extend(tasks)

    def outcomes(self) -> Iterator[Outcome | None]:
        """Run what is queued, in order."""
        while self._waiting:
            self._current = [self._waiting.popleft()]
            yield None
            outcome = attempt(self._current[0], self._world, self._store)
            self._current = []
            yield outcome

    def close(self) -> None:
        """Forget what is queued."""
        self._waiting.clear()
