"""Worker processes on this machine: started fresh, kept warm, each single-threaded, and gone when their parent is."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from harness.run.executor import Outcome, attempt
from harness.run.tasks import Task
from harness.run.world import World
from harness.store.layout import Store
from harness.sweep.resolve import Resolved

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""Environment of every worker: cells are the unit of parallel work, and results must not depend on a thread count."""

TICK_S = 0.25
"""Outcomes are waited for this long before the caller is told that time passes."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    lifeline: Connection
    """Held open, and never used: it closes when this process ends, however it ends."""
    task: Task | None = None
    since_s: float = 0.0


class Processes:
    """An executor with ``workers`` local processes. A worker that dies fails the task it had, and is replaced."""

    def __init__(self, resolved: Resolved, store: Store, workers: int) -> None:
        self._resolved, self._store, self._limit = resolved, store, workers
        self._waiting: deque[Task] = deque()
        self._workers: list[_Worker] = []

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return self._limit

    @property
    def running(self) -> Sequence[Task]:
        """What the workers have in hand."""
        return tuple(worker.task for worker in self._workers if worker.task is not None)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue ``tasks``."""
        self._waiting.extend(tasks)

    def outcomes(self) -> Iterator[Outcome | None]:
        """Hand out what is queued and yield what comes back, until nothing is left."""
        while self._waiting or self.running:
            self._assign()
            ready = connection.wait([worker.pipe for worker in self._workers if worker.task is not None], TICK_S)
            if not ready:
                yield None
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                yield self._receive(worker)

    def close(self) -> None:
        """Kill the workers; their drafts are swept up by the next run."""
        self._waiting.clear()
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
            worker.lifeline.close()
        self._workers.clear()

    def _assign(self) -> None:
        while self._waiting and len(self.running) < self._limit:
            worker = next((worker for worker in self._workers if worker.task is None), None) or self._start()
            worker.task, worker.since_s = self._waiting.popleft(), time.perf_counter()
            # If it died while idle, the closed pipe is read in a moment, and the task counts as failed.
            with suppress(OSError):
                worker.pipe.send(worker.task)

    def _start(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        lifeline, theirs_to_watch = context.Pipe()
        process = context.Process(
            target=work, args=(theirs, theirs_to_watch, self._resolved, self._store.folder), daemon=True
        )
        with environment(ONE_THREAD):
            process.start()
        theirs.close()
        theirs_to_watch.close()
        worker = _Worker(process, ours, lifeline)
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker) -> Outcome:
        task, wall_s = worker.task, time.perf_counter() - worker.since_s
        if task is None:
            raise RuntimeError("an idle worker has answered")
        worker.task = None
        try:
            wall_s, error, trace = worker.pipe.recv()
            return Outcome(task, wall_s, error, trace)
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            words = f"the worker process died ({_ending(worker.process.exitcode)})"
            return Outcome(task, wall_s, words, words)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}; out of memory is the usual reason for SIGKILL"
    return f"exit code {code}"


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def work(pipe: Connection, lifeline: Connection, resolved: Resolved, folder: Path) -> None:
    """What a worker does: tasks from the pipe, one after the other, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    world, store = World(resolved), Store(folder)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        outcome = attempt(task, world, store)
        pipe.send((outcome.wall_s, outcome.error, outcome.traceback))


def _end_with(lifeline: Connection) -> None:
    """End this process as soon as the other end of ``lifeline`` closes."""
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)
