"""Where step times come from, by name: the roofline, a kernel table that a package ships, or a profile of your own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
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


def check_codecs(codec_times: str | None, *, beside: Path | None = None) -> None:
    """Raise SpecError unless ``codec_times``, where given, is a table of codec speeds."""
    if codec_times is not None:
        from thunderserve.cost.codec_table import read_codec_times

        read_codec_times(modules.locate(codec_times, beside))


def build(name: str, codec_times: str | None = None, *, beside: Path | None = None) -> CostSource:
    """The cost source. Raises SpecError when it cannot be had."""
    from thunderserve.cost.codec import assumed
    from thunderserve.cost.codec_table import Measured

    check(name, beside=beside)
    speed = assumed if codec_times is None else Measured(modules.locate(codec_times, beside))
    if name.endswith(TABLES):
        from thunderserve.cost.profiled import Profiled

        return Profiled(modules.locate(name, beside), speed)
    if name == "measured":
        from thunderserve.cost.measured import measured

        return replace(measured(), codec_speed=speed)
    from thunderserve.cost.roofline import Roofline

    return Roofline(codec_speed=speed)


def source_digest(name: str, codec_times: str | None = None, *, beside: Path | None = None) -> str:
    """What identifies it: its name, or SHA-256 of a profile's bytes; and the same of the codec speeds, where there are any."""
    steps = _digest(name, beside) if name.endswith(TABLES) else name
    return steps if codec_times is None else f"{steps}+{_digest(codec_times, beside)}"


def _digest(file: str, beside: Path | None) -> str:
    return hashlib.sha256(modules.locate(file, beside).read_bytes()).hexdigest()
