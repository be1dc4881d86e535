"""Where step times come from, by name: the roofline, a kernel table that a package ships, or a profile of your own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.sweep import modules
from thunderserve.spec.errors import SpecError, nearest

if TYPE_CHECKING:
    from thunderserve.cost.source import CostSource

KNOWN = ("roofline", "measured")
TABLES = (".csv", ".csv.gz", ".parquet")


def check(name: str, *, beside: Path | None = None) -> None:
    """Raise SpecError unless ``name`` is a known source or the file of a profile. Reads nothing."""
    if name.endswith(TABLES):
        modules.locate(name, beside)
    elif name not in KNOWN:
        raise SpecError("unknown cost source", value=name, remedy=f"{nearest(name, KNOWN)}; or give a .csv or .parquet")


def build(name: str, *, beside: Path | None = None) -> CostSource:
    """The cost source. Raises SpecError when it cannot be had."""
    check(name, beside=beside)
    if name.endswith(TABLES):
        from thunderserve.cost.profiled import Profiled

        return Profiled(modules.locate(name, beside))
    if name == "measured":
        from thunderserve.cost.measured import measured

        return measured()
    from thunderserve.cost.roofline import Roofline

    return Roofline()


def source_digest(name: str, *, beside: Path | None = None) -> str:
    """What identifies it: its name, or SHA-256 of a profile's bytes."""
    if name.endswith(TABLES):
        return hashlib.sha256(modules.locate(name, beside).read_bytes()).hexdigest()
    return name
