"""Which figures a results folder already has: running a finished sweep again draws nothing anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.result import SweepResult
from harness.store import atomic
from harness.sweep.digest import code_version, digest

DRAWING = ("harness/figures", "harness/statistics", "harness/comparison.py", "harness/notation.py")
"""The code that decides how a figure looks."""


def identity(result: SweepResult, names: tuple[str, ...]) -> str:
    """What the figures of a sweep depend on: its cells, the figures asked for, the commit they name, and the drawing code."""
    content: dict[str, Any] = {
        "cells": result.manifest["cells"],
        "figures": list(names),
        "commit": result.manifest["code"]["commit"],
        "drawing": code_version(DRAWING),
    }
    return digest(content)


def already(result: SweepResult, names: tuple[str, ...]) -> list[Path] | None:
    """The figures, if those on disk are of this very result and all there."""
    note = _note(result)
    if not note.is_file():
        return None
    content = atomic.read_json(note)
    files = [result.folder / "figures" / name for name in content["files"]]
    return files if content["of"] == identity(result, names) and all(file.is_file() for file in files) else None


def remember(result: SweepResult, names: tuple[str, ...], files: list[Path]) -> None:
    """Note what was drawn, if nothing failed: every figure asked for left a file."""
    if any(not any(file.name.startswith(name) for file in files) for name in names):
        return
    atomic.write_json(_note(result), {"of": identity(result, names), "files": [file.name for file in files]})


def _note(result: SweepResult) -> Path:
    return result.folder / "figures" / "drawn.json"
