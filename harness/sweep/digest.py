"""Content hashes: of a cell's configuration, and of the code that decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]

SERVING = (
    "thunderserve",
    "baselines",
    "harness/run/planning.py",
    "harness/run/serve.py",
    "harness/run/capacity.py",
    "harness/sweep/schedule.py",
)
"""What decides the records of a cell. A change here makes every cell a new one."""

JUDGING = ("harness/metrics", "harness/statistics", "harness/run/judge.py", "thunderserve/spec", "thunderserve/serving")
"""What decides the metrics computed from the records. A change here judges the saved records again."""


def digest(content: Any) -> str:
    """SHA-256 of JSON content, equal for equal content whatever the order of its keys. Refuses NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of(noun: BaseModel) -> str:
    """``digest`` of a noun's fields."""
    return digest(noun.model_dump(mode="json"))


def short(content: Any) -> str:
    """The first 16 hex digits of ``digest``."""
    return digest(content)[:16]


def _sources(parts: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for part in parts:
        path = ROOT / part
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


@cache
def code_version(parts: tuple[str, ...] = SERVING) -> str:
    """SHA-256 over the named source files as they are on disk: a tree with changes is never taken for a clean one."""
    state = hashlib.sha256()
    for path in _sources(parts):
        state.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        state.update(path.read_bytes() + b"\0")
    return state.hexdigest()


@cache
def configuration_version() -> str:
    """SHA-256 over the fitted cost constants that simulated cells rest on (``configs/efficiency``)."""
    from thunderserve.spec.catalogue import find, names

    state = hashlib.sha256()
    for name in names("efficiency"):
        state.update(name.encode() + b"\0" + find("efficiency", name).read_bytes() + b"\0")
    return state.hexdigest()
