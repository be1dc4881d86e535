"""One metric, one file: formula, unit, which way is better, and ``compute(view)``. Found by listing this package."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View


class Metric(Protocol):
    """What a file of this package defines."""

    UNIT: str
    DIRECTION: Literal["up", "down", ""]
    """Which way is better; empty where neither is."""
    FORMULA: str
    """One line, shown in the report."""
    DOC: str
    """What a reader must know to compare it with another tool's."""

    def compute(self, view: View) -> Mapping[str, Value]:
        """Column name, with the unit in it -> value."""


class Description(NamedTuple):
    """A metric in words, as the report prints it."""

    name: str
    unit: str
    direction: Literal["up", "down", ""]
    formula: str
    doc: str


class Measured(NamedTuple):
    """Columns of one cell at one SLO: the fields of ``Judged``."""

    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    flags: dict[str, str]


@cache
def names() -> tuple[str, ...]:
    """Every metric there is, by name."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> Metric:
    """The module of one metric. Raises ValueError, with the names there are, for an unknown one."""
    if name not in names():
        raise ValueError(f"there is no metric {name!r}; choose from {', '.join(names())}")
    return cast("Metric", importlib.import_module(f"harness.metrics.{name}"))


def describe(name: str) -> Description:
    """One metric in words. Raises ValueError for an unknown name."""
    module = load(name)
    return Description(name, module.UNIT, module.DIRECTION, module.FORMULA, " ".join(module.DOC.split()))


def compute(view: View, chosen: Iterable[str]) -> Measured:
    """The columns of the ``chosen`` metrics, in their order. What is not finite becomes null."""
    measured = Measured({}, {}, {})
    for name in chosen:
        for column, (value, interval, flag) in load(name).compute(view).items():
            known = value is not None and math.isfinite(value)
            measured.metrics[column] = float(value) if known and value is not None else None
            if known and interval is not None and all(map(math.isfinite, interval)):
                measured.intervals[column] = (float(interval[0]), float(interval[1]))
            if flag:
                measured.flags[column] = flag
    return measured
