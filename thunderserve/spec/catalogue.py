"""Names to files: ``a40`` is ``configs/gpus/a40.yaml``; a name with a slash or an ending is a path of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from thunderserve.spec.errors import SpecError, nearest

Kind = Literal["gpus", "clusters", "models", "workloads", "sweeps", "plans", "efficiency", "accuracy"]


def roots() -> list[Path]:
    """Where configurations are looked for: $THUNDERSERVE_CONFIGS, the working folder, then what is shipped."""
    given = [Path(part) for part in os.environ.get("THUNDERSERVE_CONFIGS", "").split(os.pathsep) if part]
    package = Path(__file__).resolve().parents[1]
    shipped = [package / "configs", package.parent / "configs"]
    return [root for root in [*given, Path("configs"), *shipped] if root.is_dir()]


def find(kind: Kind, name: str, *, beside: Path | None = None) -> Path:
    """The file of ``name``. Relative paths also count from ``beside``. Raises SpecError when unknown."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return _path(name, beside)
    for root in roots():
        for entry in _entries(root / kind):
            if entry.stem.lower() == name.lower():
                return entry
    raise SpecError(f"unknown {kind[:-1]}", value=name, remedy=nearest(name, names(kind)))


def names(kind: Kind) -> list[str]:
    """All known names of a kind, each once, in order."""
    return sorted({entry.stem for root in roots() for entry in _entries(root / kind)})


def _path(name: str, beside: Path | None) -> Path:
    for folder in (Path(), beside):
        if folder is not None and (folder / name).is_file():
            return folder / name
    raise SpecError(
        "no such file", file=name, remedy="give a path from the working folder or from the file that names it"
    )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))
