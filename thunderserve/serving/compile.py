"""One typed door to numba, so that compiled code is declared the same way everywhere.

numba keys a cached function on its own file alone, so an edit of a *callee* in another file would be ignored by the next
run. Here the cache lives in a folder named after the text of all compiled rooms: any edit starts a fresh one.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

COMPILED_ROOMS = ("cost", "serving", "simulator")


def jit(function: F) -> F:
    """Compile ``function`` with numba in nopython mode, cached on disk, with IEEE arithmetic (no fast-math)."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = cache_folder()  # read by numba when the dispatcher is made, not later
    try:
        compiled: F = numba.njit(cache=True, fastmath=False, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


@functools.cache
def cache_folder() -> str:
    """Where this version of the kernels keeps its machine code: below ``NUMBA_CACHE_DIR``, the package, or the user's cache."""
    package = Path(__file__).resolve().parents[1]
    text = hashlib.blake2b(digest_size=8)
    for room in COMPILED_ROOMS:
        for source in sorted((package / room).glob("*.py")):
            code = source.read_bytes()
            if b"@jit" in code:
                text.update(source.name.encode() + b"\0" + code)
    chosen = os.environ.get("NUMBA_CACHE_DIR", "")
    base = Path(chosen) if chosen else package / "__pycache__"
    if not chosen and not os.access(package, os.W_OK):
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "thunderserve"
    return str(base / f"kernels-{text.hexdigest()}")
