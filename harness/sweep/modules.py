"""Python modules by dotted name or by file, for systems and backends of a user's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from thunderserve.spec.errors import SpecError


def is_file(name: str) -> bool:
    """Whether ``name`` means a file."""
    return name.endswith(".py") or "/" in name


def load(name: str, *, beside: Path | None = None) -> ModuleType:
    """The module ``package.module``, or that of a file. Relative paths count from the working folder and from ``beside``.

    Raises SpecError when it is not there or cannot be imported.
    """
    if is_file(name):
        return _from_file(locate(name, beside))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SpecError(f"cannot be imported: {error}", value=name, remedy="check the module's path") from None


def locate(name: str, beside: Path | None) -> Path:
    """The file that ``name`` means. Raises SpecError when there is none."""
    for folder in (Path(), beside):
        if folder is not None and (folder / name).is_file():
            return (folder / name).resolve()
    raise SpecError("no such file", value=name, remedy="give a path from the working folder or from the sweep file")


def _from_file(path: Path) -> ModuleType:
    name = f"own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    plan = importlib.util.spec_from_file_location(name, path)
    if plan is None or plan.loader is None:
        raise SpecError("is not a Python file", value=str(path))
    found = importlib.util.module_from_spec(plan)
    sys.modules[name] = found
    try:
        plan.loader.exec_module(found)
    except Exception as error:
        del sys.modules[name]
        raise SpecError(f"cannot be imported: {type(error).__name__}: {error}", value=str(path)) from error
    return found
