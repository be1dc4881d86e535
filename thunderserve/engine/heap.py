"""The C heap of a process that computes: what a step has freed is kept for the next one.

glibc gives large blocks back to the kernel as soon as they are free, and gets them anew, page by page, in the next step: some
14,000 page faults for a prompt of 350 tokens on SmolLM2-135M, 4 % of its time. And it gives every thread a heap of its own, in
which packets of keys and values would take new pages while there is room in the one of the steps: all threads share one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""``M_TRIM_THRESHOLD``, ``M_MMAP_THRESHOLD`` and ``M_ARENA_MAX`` of glibc's malloc.h."""
KEPT_BYTES = 1 << 30
"""Of free memory at the top of the heap; also the least size of a block that is mapped on its own."""
USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Whoever has set one of these knows better."""


def keep_freed() -> bool:
    """Tell the allocator of this process, before it has threads; say whether it listens. Only glibc's is told anything."""
    if any(name in os.environ for name in USERS_OWN):
        return False
    mallopt = _of_libc("mallopt")
    wishes = {_MMAP_THRESHOLD: KEPT_BYTES, _TRIM_THRESHOLD: KEPT_BYTES, _ARENA_MAX: 1}
    return mallopt is not None and all(mallopt(name, value) for name, value in wishes.items())


def give_back() -> bool:
    """Return what is free now to the kernel, as after loading weights; say whether there was a way (glibc)."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)
    return trim is not None


def _of_libc(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return found
