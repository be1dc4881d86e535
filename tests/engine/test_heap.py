"""A process that computes keeps what it has freed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from thunderserve.engine.heap import USERS_OWN

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
PROGRAM = """
import resource, sys
import numpy as np
from thunderserve.engine.heap import keep_freed
listens = keep_freed() if sys.argv[1] == "kept" else None
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(size):
    begin = faults()
    a = np.ones(size); b = np.ones(size // 2)
    del a, b
    return faults() - begin
step(9_000_000)
print(listens, sum(step(8_000_000 - 1000 * k) for k in range(5)))
"""


def run(program: str, *arguments: str, **environment: str) -> list[str]:
    """The words that a process of its own prints; it inherits no wish of the user's for its heap."""
    clean = {name: value for name, value in os.environ.items() if name not in USERS_OWN}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean | environment)
    return done.stdout.split()


def test_steps_find_the_memory_of_the_last_one() -> None:
    _, without = run(PROGRAM, "as it was")
    listens, kept = run(PROGRAM, "kept")
    assert listens == "True"
    assert int(kept) < int(without) / 20  # five steps of 96 MB, in pages of 4 kB or of 2 MB


def test_a_users_own_setting_is_left_alone() -> None:
    listens, _ = run(PROGRAM, "kept", MALLOC_TRIM_THRESHOLD_="100000")
    assert listens == "False"


def test_what_one_thread_has_freed_another_finds() -> None:
    program = """
import threading
from thunderserve.engine.heap import keep_freed
keep_freed()
import numpy as np
pages = lambda: int(open("/proc/self/statm").read().split()[1])
all_done = threading.Event()
def lives_on(took):
    np.ones(2_000_000)
    took.set(); all_done.wait()
before = pages()
for _ in range(8):
    took = threading.Event()
    threading.Thread(target=lives_on, args=(took,)).start(); took.wait()
print(pages() - before)
all_done.set()
"""
    (grown,) = run(program)
    assert int(grown) * os.sysconf("SC_PAGESIZE") < 40e6  # one block of 16 MB, and not one a thread


def test_what_loading_needed_can_be_given_back() -> None:
    program = """
import numpy as np
from thunderserve.engine.heap import give_back, keep_freed
keep_freed()
pages = lambda: int(open("/proc/self/statm").read().split()[1])
a = np.ones(20_000_000); kept = bytearray(200_000); del a
before = pages(); assert give_back(); print(before - pages())
"""
    (freed,) = run(program)
    assert int(freed) * os.sysconf("SC_PAGESIZE") > 100e6
