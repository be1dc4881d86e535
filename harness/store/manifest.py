"""``manifest.json``: by what, when, where and from what a results folder was made. Volatile: it differs between equal results."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.store import atomic
from harness.store.layout import Store

PACKAGES = (
    "thunderserve", "numpy", "numba", "llvmlite", "pydantic", "ruamel.yaml", "typer", "rich", "duckdb",
    "pandas", "matplotlib", "seaborn", "wandb", "scipy",
)  # fmt: skip
"""Whose versions are noted."""

ENVIRONMENT = ("THUNDERSERVE_CONFIGS", "THUNDERSERVE_DATA", "NUMBA_DISABLE_JIT", "NUMBA_CPU_NAME", "WANDB_MODE")
"""Variables that can change a result; noted when set."""


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed, and Python's own."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the run was made on."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def code(root: Path) -> dict[str, Any]:
    """The commit of the checkout at ``root`` and a hash of what differs from it; ``unknown`` outside a checkout."""
    commit = _git(root, "rev-parse", "HEAD").strip()
    if not commit:
        return {"commit": "unknown", "dirty": None}
    changes = _git(root, "status", "--porcelain") + _git(root, "diff", "HEAD")
    return {"commit": commit, "dirty": hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else ""}


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  our own words
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def environment() -> dict[str, str]:
    """The noted variables that are set."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


def cell_digests(store: Store, ids: list[str]) -> dict[str, str]:
    """Cell -> SHA-256 over its ``cell.json`` (which has the digests of the rest) and ``summary.json``; finished cells only."""
    found = {}
    for cell_id in ids:
        folder = store.cell(cell_id)
        state = hashlib.sha256()
        try:
            for name in ("cell.json", "summary.json"):
                state.update((folder / name).read_bytes())
        except OSError:
            continue
        found[cell_id] = state.hexdigest()
    return found


def earlier_runs(store: Store) -> list[dict[str, Any]]:
    """What earlier calls of ``harness run`` noted about themselves in the same folder."""
    try:
        runs: list[dict[str, Any]] = atomic.read_json(store.manifest)["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return runs


def argv() -> list[str]:
    """The command as it was typed."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
