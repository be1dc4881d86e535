"""Serving systems by name: ours, a module of ``baselines``, a dotted module, or a file. Each exports a dataclass ``System``."""

from __future__ import annotations

import hashlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.sweep import modules
from thunderserve.policy import Policy
from thunderserve.spec.errors import SpecError, nearest


class OptionError(SpecError):
    """An option of a system or a backend is unknown or wrong; ``option`` is its name."""

    def __init__(self, reason: str, option: str, *, value: object = None, remedy: str = "") -> None:
        self.option = option
        super().__init__(reason, value=value, remedy=remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.reason, self.option, self.value, self.remedy))


def _rebuild(reason: str, option: str, value: object, remedy: str) -> OptionError:
    return OptionError(reason, option, value=value, remedy=remedy)


OURS = {"thunderserve": "thunderserve.scheduler.system"}
"""The system that this project is about lies in the library itself."""


def names() -> list[str]:
    """The systems that are shipped: ours, and the modules of ``baselines``."""
    import baselines

    return sorted([*OURS, *(item.name for item in pkgutil.iter_modules(baselines.__path__) if not item.ispkg)])


def module_name(name: str) -> str:
    """The dotted module of a shipped system."""
    return OURS.get(name, f"baselines.{name}")


def module(name: str, *, beside: Path | None = None) -> ModuleType:
    """The module of a system. ``beside`` is the folder that relative paths also count from. Raises SpecError."""
    if modules.is_file(name) or "." in name:
        return modules.load(name, beside=beside)
    if name not in names():
        raise SpecError("unknown system", value=name, remedy=nearest(name, names()))
    return modules.load(module_name(name))


def system_class(name: str, *, beside: Path | None = None) -> type[Any]:
    """The dataclass ``System`` of a module. Raises SpecError if there is none."""
    found = getattr(module(name, beside=beside), "System", None)
    if not isinstance(found, type) or not is_dataclass(found) or not hasattr(found, "plan"):
        raise SpecError(
            "exports no dataclass 'System' with a method 'plan'",
            value=name,
            remedy="see thunderserve/policy.py, and 'harness init --template system'",
        )
    return found


def options(name: str, *, beside: Path | None = None) -> dict[str, Any]:
    """Option -> default, in the order of the fields."""
    return {item.name: item.default for item in fields(system_class(name, beside=beside))}


def build(name: str, given: Mapping[str, Any], *, beside: Path | None = None) -> Policy:
    """The policy with these options, their types checked. Raises OptionError, or SpecError for the system itself."""
    from pydantic import TypeAdapter, ValidationError

    kind = system_class(name, beside=beside)
    known = [item.name for item in fields(kind)]
    for option in given:
        if option not in known:
            remedy = nearest(option, known) if known else "it has no options"
            raise OptionError(f"unknown option of {name}", option, remedy=remedy)
    try:
        policy: Policy = TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        option = str(detail["loc"][0]) if detail["loc"] else ""
        reason = detail["msg"].removeprefix("Value error, ")
        raise OptionError(reason[:1].lower() + reason[1:], option, value=given.get(option)) from None
    return policy


def source_digest(name: str, *, beside: Path | None = None) -> str:
    """SHA-256 of a system's own file when it lies outside the packages that the code version covers; else empty."""
    found = module(name, beside=beside)
    if found.__name__.startswith(("baselines.", "thunderserve.")):
        return ""
    return hashlib.sha256(Path(inspect.getfile(found)).read_bytes()).hexdigest()
