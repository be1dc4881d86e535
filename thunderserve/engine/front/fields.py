"""The fields of a JSON body, each read with its type and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thunderserve.engine.front.refused import Refused


class Fields:
    """A body. A field that is absent or null has its default; one of a wrong type or value is ``Refused`` by name."""

    def __init__(self, body: Mapping[str, Any], prefix: str = "") -> None:
        self._body, self._prefix = body, prefix

    def get(self, name: str) -> Any:
        """As it came; None where it did not."""
        return self._body.get(name)

    def wrong(self, name: str, wanted: str) -> Refused:
        """``'top_p' must be a number in (0, 1], not 7``."""
        given = self._body.get(name)
        shown = repr(given) if isinstance(given, str | int | float | bool) else type(given).__name__
        return Refused(f"'{self._prefix}{name}' must be {wanted}, not {shown[:80]}", self._prefix + name)

    def flag(self, name: str) -> bool:
        """A boolean; false by default."""
        value = self.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str) -> str | None:
        """A string."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def whole(self, name: str, default: int | None, low: int, high: int | None = None) -> int | None:
        """An integer from ``low`` to ``high``."""
        value = self.get(name)
        if value is None:
            return default
        above = high is not None and is_whole(value) and value > high
        if not is_whole(value) or value < low or above:
            limits = f"{low} or more" if high is None else f"from {low} to {high}"
            raise self.wrong(name, f"an integer, {limits}")
        return int(value)

    def real(self, name: str, default: float, low: float, high: float, *, open_below: bool = False) -> float:
        """A finite number in [low, high], or in (low, high]."""
        value = self.get(name)
        if value is None:
            return default
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high or (open_below and value == low):
            raise self.wrong(name, f"a number in {'(' if open_below else '['}{low:g}, {high:g}]")
        return float(value)

    def inner(self, name: str) -> Fields:
        """An object; an empty one where it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value or {}, f"{self._prefix}{name}.")


def is_whole(value: Any) -> bool:
    """Whether it is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_whole(values: Sequence[Any]) -> bool:
    """Whether all are."""
    return all(type(value) is int for value in values)
