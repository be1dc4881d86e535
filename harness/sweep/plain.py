"""Plain Python out of what a YAML reader returns."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """The same content in dict, list, str, int, float, bool and None, without line marks."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
