"""One typed door to numba, so that compiled code is declared the same way everywhere.

numba keys a cached function on its own file alone, so an edit of a *callee* in another file would be ignored by the next
run. Here the cache lives in a folder named after the text of all rooms that a function can call: any edit starts a fresh one.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])

NUMBA: Any = numba  # its stubs know neither ``config.CACHE_DIR`` nor every option

ROOMS = ("serving", "cost", "simulator", "scheduler")  # a compiled function calls its own room and those before it
ALONE = {"kv": ("kv/kernels", "kv/wire")}  # a room that calls no other, with the folders where its code lies


def jit(function: F) -> F:
    """Compile ``function`` with numba in nopython mode, cached on disk, with IEEE arithmetic (no fast-math)."""
    return _compile(function, cache=True)


def kernel(function: F) -> F:
    """``jit`` for code that makes no arrays: without the reference counts, which cost most of the time of small functions.

    Beware of literals: numba compiles a function once more for every constant that it is called with.
    """
    return _compile(function, cache=True, _nrt=False)


def inlined(function: F) -> F:
    """A part of kernels that is small or has a single caller: compiled into its caller."""
    return _compile(function, inline="always", _nrt=False)


def loose(function: F) -> F:
    """``kernel`` for sums over real values where the order does not matter (an engine's attention): it may be vectorised.

    The same values give the same sums; infinities and NaN keep their meaning.
    """
    return _compile(function, cache=True, _nrt=False, fastmath={"reassoc", "contract", "nsz", "arcp"})


def _compile(function: F, **options: object) -> F:
    room = function.__module__.split(".")[1] if function.__module__.startswith("thunderserve.") else ROOMS[-1]
    before = NUMBA.config.CACHE_DIR
    NUMBA.config.CACHE_DIR = cache_folder(room)  # numba reads it when the dispatcher is made, not later
    others_run = room not in ROOMS  # kv, engine: other threads go on; the short calls of a simulation keep the lock
    try:
        options = {"fastmath": False, "error_model": "numpy", "nogil": others_run} | options
        compiled: F = NUMBA.njit(**options)(function)
    finally:
        NUMBA.config.CACHE_DIR = before
    return compiled


@functools.cache
def cache_folder(room: str) -> str:
    """Where this version of a room's compiled code lies: below ``NUMBA_CACHE_DIR``, the package, or the user's cache."""
    package = Path(__file__).resolve().parents[1]
    text = hashlib.blake2b(digest_size=8)
    for name in ALONE.get(room) or (ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ROOMS):
        for source in sorted((package / name).glob("*.py")):
            code = source.read_bytes()
            if room in ALONE or b"serving.compile import" in code or source.name == "compile.py":
                text.update(source.name.encode() + b"\0" + code)
    chosen = os.environ.get("NUMBA_CACHE_DIR", "")
    base = Path(chosen) if chosen else package / "__pycache__"
    if not chosen and not os.access(package, os.W_OK):
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "thunderserve"
    return str(base / f"{room}-{text.hexdigest()}")
