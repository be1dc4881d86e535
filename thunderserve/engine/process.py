"""What a process of the engine does before anything else."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from thunderserve.engine.heap import keep_freed

PR_SET_PDEATHSIG = 1


def settle(cores: Sequence[int], threads: int) -> None:
    """Pin this process, count its threads, keep its heap; torch, which reads the count, is not imported yet."""
    keep_freed()
    if cores:
        os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TQDM_DISABLE", "1")


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Be sent a signal when the process that started this one dies, however it dies (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
