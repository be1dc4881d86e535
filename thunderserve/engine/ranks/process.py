"""The processes of the ranks other than 0. Without torch: they start while rank 0 still imports it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Pipe

from thunderserve.engine.options import WorkerOptions

MODULE = "thunderserve.engine.ranks"


class Process:
    """One rank, which ends with this process.

    Args:
        options: of the worker.
        number: of the rank.
        lost: called, with words, from a thread, when it ends before it was told to.
    """

    def __init__(self, options: WorkerOptions, number: int, lost: Callable[[str], None]) -> None:
        self.pipe, other = Pipe()
        self._number, self._lost, self._told = number, lost, False
        command = [sys.executable, "-m", MODULE, options.to_json(), str(number), str(other.fileno())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(other.fileno(),))  # noqa: S603
        other.close()
        threading.Thread(target=self._watch, name=f"rank-{number}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def stop(self) -> None:
        """At once: it has nothing that somebody would miss."""
        self._told = True
        self.pipe.close()
        self._process.kill()
        self._process.wait()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._told:
            self._lost(f"rank {self._number} (pid {self.pid}) ended with {code}")


def start_ranks(options: WorkerOptions, lost: Callable[[str], None]) -> list[Process]:
    """All but rank 0. To be called from a thread that lives as long as they: its end is theirs."""
    return [Process(options, number, lost) for number in range(1, len(options.ranks))]
