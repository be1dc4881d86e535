"""Backends by name: what carries a plan out. A known name, or ``package.module:factory``, or ``./file.py:factory``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.sweep import modules
from thunderserve.spec.errors import SpecError, nearest

if TYPE_CHECKING:
    from thunderserve.backend import Backend
    from thunderserve.cost.source import CostSource

KNOWN = {
    "simulated": "thunderserve.simulator.backend:Simulated",
    "engine": "thunderserve.engine.backend:Real",
    "vllm": "thunderserve.engine.vllm.backend:Vllm",
    "vllm-files": "thunderserve.engine.vllm.backend:over_files",
}
"""Name -> ``module:factory``; a factory takes the cost source that plans were made with."""
REAL = ("engine", "vllm", "vllm-files")
"""Those that take as long as the requests do. ``vllm-files`` is vLLM with its own connector over files in the place of ours."""


def check(name: str, *, beside: Path | None = None) -> None:
    """Raise SpecError unless ``name`` can stand for a backend. Imports nothing."""
    module, colon, factory = name.rpartition(":")
    if name not in KNOWN and not (colon and factory):
        raise SpecError("unknown backend", value=name, remedy=nearest(name, KNOWN))
    if name not in KNOWN and modules.is_file(module):
        modules.locate(module, beside)


def in_real_time(name: str) -> bool:
    """Whether it takes as long as the requests do, and wants the machine for itself."""
    return name in REAL


def source_digest(name: str, *, beside: Path | None = None) -> str:
    """SHA-256 of the file of a backend that is named by its file; else empty."""
    module = name.rpartition(":")[0]
    if name in KNOWN or not modules.is_file(module):
        return ""
    return hashlib.sha256(modules.locate(module, beside).read_bytes()).hexdigest()


def connect(name: str, costs: CostSource, *, beside: Path | None = None) -> Backend:
    """The backend called ``name``. Raises SpecError when it cannot be had."""
    check(name, beside=beside)
    module, _, factory = KNOWN.get(name, name).rpartition(":")
    make: Callable[[CostSource], Backend] | None = getattr(modules.load(module, beside=beside), factory, None)
    if make is None:
        raise SpecError(f"{module} has no {factory}", value=name)
    return make(costs)
