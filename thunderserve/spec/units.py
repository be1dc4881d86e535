"""Quantities with units: ``48 GiB``, ``696 GB/s``, ``149.7 TFLOP/s``, ``0.403 USD/h``, ``40 Gbit/s``, ``200 ms``.

A field declares its dimension by its annotation (``Bytes``, ``Seconds`` ...). The YAML key may then be the field's name
without the unit, with a string that carries one (``memory: 48 GiB``), or the full name with a plain SI number
(``memory_bytes: 51539607552``). Everything inside the program is SI.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


@dataclass(frozen=True, eq=False)
class Dimension:
    """What a field measures: its name in messages, its field-name suffix, an example, and its units in SI."""

    name: str
    suffix: str
    example: str
    units: dict[str, float]
    short: str = ""
    """What takes the suffix's place in the short key (``memory_bandwidth`` for ``memory_bytes_per_s``)."""

    def short_key(self, field: str) -> str | None:
        """The YAML key beside the full name ``field``: without the unit; None for a field that does not name it."""
        if not self.suffix or not f"_{field}".endswith(self.suffix):
            return None
        base = f"_{field}".removesuffix(self.suffix)
        return f"{base}_{self.short}".strip("_") if self.short else base.strip("_")

    def parse(self, text: str) -> float:
        """The SI value of ``text``. Raises ValueError, in words, for a missing or foreign unit."""
        match = re.fullmatch(r"\s*([-+]?[0-9][0-9_]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?)\s*(.*?)\s*", text)
        if match is None:
            raise ValueError(f"is not a {self.name}; write a number and a unit, as in '{self.example}'")
        number, unit = Decimal(match[1].replace("_", "")), match[2]
        if not unit:
            raise ValueError(f"has no unit; write for example '{self.example}'")
        if unit not in self.units:
            raise ValueError(f"has the unit '{unit}', but a {self.name} is wanted; write for example '{self.example}'")
        # Decimal, so that 10 us is the double nearest to 1e-5 and not that of 10 times 1e-6.
        return float(number * Decimal(repr(self.units[unit])))


def _scaled(base: str, factor: float = 1.0, *, binary: bool = False) -> dict[str, float]:
    table = {prefix + base: scale * factor for prefix, scale in _PREFIX.items()}
    if binary:
        table |= {prefix + base: scale * factor for prefix, scale in _BINARY.items()}
    return table


_BYTES = _scaled("B", binary=True)
_BITS = _scaled("bit", 1 / 8)

BYTES = Dimension("memory size", "_bytes", "48 GiB", _BYTES)
BYTES_PER_S = Dimension(
    "bandwidth",
    "_bytes_per_s",
    "696 GB/s",
    {unit + "/s": scale for unit, scale in (_BYTES | _BITS).items()} | _scaled("bps", 1 / 8),
    short="bandwidth",
)
FLOPS = Dimension("compute rate", "", "149.7 TFLOP/s", _scaled("FLOP/s") | _scaled("FLOPS"))
SECONDS = Dimension(
    "duration",
    "_s",
    "200 ms",
    {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0},
)
USD_PER_HOUR = Dimension("price", "_per_hour", "0.403 USD/h", {"USD/h": 1.0, "$/h": 1.0, "usd/h": 1.0, "USD/hour": 1.0})
PER_S = Dimension(
    "rate", "_per_s", "4 requests/s", {"requests/s": 1.0, "req/s": 1.0, "/s": 1.0, "requests/min": 1 / 60}
)

DIMENSIONS = (BYTES, BYTES_PER_S, FLOPS, SECONDS, USD_PER_HOUR, PER_S)


def _number(dimension: Dimension) -> BeforeValidator:
    def read(value: object) -> object:
        if isinstance(value, str):
            return dimension.parse(value)
        if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"is not a {dimension.name}; write for example '{dimension.example}'")
        return value

    return BeforeValidator(read)


Bytes = Annotated[float, _number(BYTES), Field(ge=0), BYTES]
BytesPerSecond = Annotated[float, _number(BYTES_PER_S), Field(gt=0), BYTES_PER_S]
Flops = Annotated[float, _number(FLOPS), Field(gt=0), FLOPS]
Seconds = Annotated[float, _number(SECONDS), Field(ge=0), SECONDS]
PositiveSeconds = Annotated[float, _number(SECONDS), Field(gt=0), SECONDS]
UsdPerHour = Annotated[float, _number(USD_PER_HOUR), Field(ge=0), USD_PER_HOUR]
PerSecond = Annotated[float, _number(PER_S), Field(gt=0), PER_S]
