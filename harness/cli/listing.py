"""Names and first lines of a package's modules, read without importing them."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def modules(package: str) -> list[str]:
    """The public modules of a package."""
    folder = ROOT / package.replace(".", "/")
    return sorted(
        item.name for item in pkgutil.iter_modules([str(folder)]) if not item.ispkg and not item.name.startswith("_")
    )


def summary(package: str, name: str) -> str:
    """The first line of a module's docstring."""
    path = ROOT / package.replace(".", "/") / f"{name}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def has_main(package: str, name: str) -> bool:
    """Whether a module defines ``main``."""
    path = ROOT / package.replace(".", "/") / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(item, ast.FunctionDef) and item.name == "main" for item in tree.body)
