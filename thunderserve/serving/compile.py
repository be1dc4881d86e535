"""One typed door to numba, so that compiled code is declared the same way everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile ``function`` with numba in nopython mode, cached on disk, with IEEE arithmetic (no fast-math)."""
    compiled: F = numba.njit(cache=True, fastmath=False, error_model="numpy")(function)
    return compiled
