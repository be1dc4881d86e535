"""Libraries of the ``planners`` extra, imported when a planner needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from thunderserve.spec.errors import SpecError


def require(module: str, system: str) -> Any:
    """Import ``module``. Raises SpecError, naming the extra, when it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        remedy = "pip install 'thunderserve[planners]'"
        raise SpecError(f"{system} needs {module.partition('.')[0]}, which is not installed", remedy=remedy) from None
