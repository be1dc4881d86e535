"""Backends by name: what carries a plan out. A known name, or ``package.module:factory``, or ``./file.py:factory``."""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.sweep import modules
from harness.sweep.systems import OptionError
from thunderserve.spec.errors import SpecError, nearest

if TYPE_CHECKING:
    from thunderserve.backend import Backend
    from thunderserve.cost.source import CostSource

SIMULATED, SERVER = "simulated", "openai"
KNOWN = {
    SIMULATED: "thunderserve.simulator.backend:Simulated",
    "engine": "thunderserve.engine.backend:Real",
    "vllm": "thunderserve.engine.vllm.backend:Vllm",
    "vllm-files": "thunderserve.engine.vllm.backend:over_files",
    SERVER: "harness.load.backend:Server",
}
"""Name -> ``module:factory``; a factory takes the cost source that plans were made with, and options by name."""
REAL = ("engine", "vllm", "vllm-files", SERVER)
"""Those that take as long as the requests do. ``vllm-files`` is vLLM with its own connector over files in the place of ours;
``openai`` is any server with that interface, started by a command or found at a URL."""
NOT_OPTIONS = ("costs", "name", "self")


def check(name: str, options: Mapping[str, Any] | None = None, *, beside: Path | None = None) -> None:
    """Raise SpecError unless ``name`` can stand for a backend, and OptionError unless it takes ``options``.

    Imports nothing where there are no options, and none are needed.
    """
    module, colon, factory = name.rpartition(":")
    if name not in KNOWN and not (colon and factory):
        raise SpecError("unknown backend", value=name, remedy=nearest(name, KNOWN))
    if name not in KNOWN and modules.is_file(module):
        modules.locate(module, beside)
    if options or name == SERVER:
        make = _factory(name, beside)
        typed = _typed(name, make, options or {})
        if name in KNOWN:
            make(None, **typed)  # what one option makes of another is for itself to say


def in_real_time(name: str) -> bool:
    """Whether it takes as long as the requests do, and wants the machine for itself."""
    return name in REAL


def source_digest(name: str, *, beside: Path | None = None) -> str:
    """SHA-256 of the file of a backend that is named by its file; else empty."""
    module = name.rpartition(":")[0]
    if name in KNOWN or not modules.is_file(module):
        return ""
    return hashlib.sha256(modules.locate(module, beside).read_bytes()).hexdigest()


def connect(
    name: str, costs: CostSource, options: Mapping[str, Any] | None = None, *, beside: Path | None = None
) -> Backend:
    """The backend called ``name``. Raises SpecError when it cannot be had."""
    check(name, options, beside=beside)
    make = _factory(name, beside)
    found: Backend = make(costs, **_typed(name, make, options or {}))
    return found


def _factory(name: str, beside: Path | None) -> Callable[..., Backend]:
    module, _, factory = KNOWN.get(name, name).rpartition(":")
    make: Callable[..., Backend] | None = getattr(modules.load(module, beside=beside), factory, None)
    if make is None:
        raise SpecError(f"{module} has no {factory}", value=name)
    return make


def _typed(name: str, make: Callable[..., Backend], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the factory's signature wants them."""
    from pydantic import TypeAdapter, ValidationError

    known = [one for one in inspect.signature(make).parameters if one not in NOT_OPTIONS]
    hints = typing.get_type_hints(make)
    found = {}
    for option, value in given.items():
        if option not in known:
            remedy = nearest(option, known) if known else "it has no options"
            raise OptionError(f"unknown option of {name}", option, remedy=remedy)
        try:
            found[option] = TypeAdapter(hints.get(option, Any)).validate_python(value)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise OptionError(reason[:1].lower() + reason[1:], option, value=value) from None
    return found
